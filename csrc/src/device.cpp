#include "device.h"

#include <mutex>
#include <utility>

#include "error.h"

namespace pynn {
namespace {

constexpr const char* kLibrary = "libcuda.so.1";
constexpr int kOutOfMemory = 2;
constexpr int kInsufficientDriver = 35;
constexpr int kNoDevice = 100;

}  // namespace

const Driver& Driver::get() {
  static std::mutex mutex;
  static Driver driver;
  std::lock_guard lock(mutex);
  if (!driver.library_) driver.load();
  return driver;
}

void Driver::load() {
  std::string reason;
  SharedObject library = SharedObject::open(kLibrary, &reason);
  if (!library) throw Failure(PYNN_TRT_DEVICE_UNSUPPORTED, join("cannot load the CUDA driver: ", reason));
  auto need = [&](const char* symbol) {
    void* address = library.find(symbol);
    if (address == nullptr)
      throw Failure(PYNN_TRT_DEVICE_UNSUPPORTED,
                    join("the CUDA driver is too old: ", kLibrary, " lacks ", symbol));
    return address;
  };
#define DRIVER(name, symbol, ...) name = reinterpret_cast<decltype(name)>(need(symbol));
#include "device.inc"
#undef DRIVER
  library_ = std::move(library);
}

void Driver::check(int result, const char* what) const {
  if (result == kSuccess) return;
  const char* name = nullptr;
  const char* text = nullptr;
  if (error_name(result, &name) != kSuccess || name == nullptr) name = "unknown CUDA error";
  if (error_string(result, &text) != kSuccess || text == nullptr) text = "no description";
  int32_t status = PYNN_TRT_CUDA_FAILED;
  if (result == kOutOfMemory) status = PYNN_TRT_DEVICE_OUT_OF_MEMORY;
  if (result == kInsufficientDriver || result == kNoDevice) status = PYNN_TRT_DEVICE_UNSUPPORTED;
  throw Failure(status, join("cannot ", what, ": ", name, " (", result, "), ", text));
}

CurrentContext::CurrentContext(const Driver& driver, uint64_t context) : driver_(driver) {
  if (context == 0) return;
  result_ = driver_.ctx_push(reinterpret_cast<void*>(static_cast<uintptr_t>(context)));
  pushed_ = result_ == Driver::kSuccess;
}

CurrentContext::~CurrentContext() {
  void* popped = nullptr;
  if (pushed_) driver_.ctx_pop(&popped);
}

}  // namespace pynn
