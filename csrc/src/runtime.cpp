#include "runtime.h"

#include "engine.h"
#include "handle.h"
#include "native.h"

namespace pynn {
namespace {

constexpr int32_t kInvalid = 2;
constexpr uint64_t kMalformed = 32;

}  // namespace

Runtime::Runtime(std::shared_ptr<Logger> logger) : logger_(std::move(logger)) {
  LogScope log(*logger_);
  auto* raw = static_cast<abi::Runtime*>(logger_->library().create_runtime(logger_->native()));
  native_ = adopt(log, raw, PYNN_TRT_INTERNAL, "cannot create the runtime");
  prove(*logger_, native_, abi::slot::Runtime_getPImpl, native_.get());
  prove(*logger_, native_, abi::slot::Runtime_getLogger, logger_->native());
}

abi::Owned<abi::Engine> Runtime::deserialize(const void* plan, uint64_t size) const {
  require_bytes(plan, size, "plan");
  if (size == 0) throw Failure(PYNN_TRT_PLAN_INVALID, "cannot read the plan: it is empty");
  LogScope log(*logger_);
  auto* raw = abi().call(abi::slot::Runtime_deserializeCudaEngine, native_.get(), plan, size);
  auto engine = adopt(log, raw, PYNN_TRT_PLAN_INVALID, "cannot read the plan");
  prove(*logger_, engine, abi::slot::Engine_getPImpl, engine.get());
  return engine;
}

int32_t Runtime::check_plan(const void* plan, uint64_t size, uint64_t* diagnostics) const {
  require_bytes(plan, size, "plan");
  *diagnostics = 0;
  int64_t header = abi().call(abi::slot::Runtime_getEngineHeaderSize, native_.get());
  if (header < 0 || size < static_cast<uint64_t>(header)) {
    *diagnostics = kMalformed;
    return kInvalid;
  }
  LogScope log(*logger_);
  return abi().call(abi::slot::Runtime_getEngineValidity, native_.get(), plan, static_cast<int64_t>(size),
                    diagnostics);
}

}  // namespace pynn

using namespace pynn;

extern "C" {

int32_t pynn_trt_runtime_create(pynn_trt_logger* logger, pynn_trt_runtime** runtime, pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(runtime, "runtime");
    result = new pynn_trt_runtime{std::make_shared<Runtime>(shared(logger, "logger"))};
  });
}

void pynn_trt_runtime_destroy(pynn_trt_runtime* runtime) { delete runtime; }

int32_t pynn_trt_runtime_deserialize(pynn_trt_runtime* runtime, const void* plan, uint64_t size,
                                     pynn_trt_engine** engine, pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(engine, "engine");
    result = new pynn_trt_engine{std::make_shared<Engine>(shared(runtime, "runtime"), plan, size)};
  });
}

int32_t pynn_trt_runtime_check_plan(pynn_trt_runtime* runtime, const void* plan, uint64_t size,
                                    int32_t* validity, uint64_t* diagnostics, pynn_trt_error** error) {
  return guard(error, [&] {
    const Runtime& object = self(runtime, "runtime");
    out(validity, "validity") = object.check_plan(plan, size, &out(diagnostics, "diagnostics"));
  });
}
}
