// The CUDA driver, loaded when the first runner is made. Own declarations of the few functions used.
#pragma once

#include <cstddef>
#include <cstdint>

#include "shared_object.h"

namespace pynn {

class Driver {
 public:
  // Throws DEVICE_UNSUPPORTED when there is no driver. Loaded once; the driver is never unloaded.
  static const Driver& get();

  // Throws CUDA_FAILED, or DEVICE_OUT_OF_MEMORY or DEVICE_UNSUPPORTED when that is the reason.
  void check(int result, const char* what) const;

#define DRIVER(name, symbol, ...) int (*name)(__VA_ARGS__) = nullptr;
#include "device.inc"
#undef DRIVER

  static constexpr int kSuccess = 0;
  static constexpr int kNotReady = 600;
  static constexpr int kCaptureThreadLocal = 1;
  static constexpr int kPointerMemoryType = 2;
  static constexpr unsigned kMemoryTypeHost = 1;
  static constexpr unsigned kEventBlockingSync = 1;
  static constexpr unsigned kEventDisableTiming = 2;

 private:
  void load();

  SharedObject library_;
};

// Makes a CUDA context current on this thread for a scope; a context of 0 leaves things as they are.
class CurrentContext {
 public:
  CurrentContext(const Driver& driver, uint64_t context);
  ~CurrentContext();
  CurrentContext(const CurrentContext&) = delete;
  // 0 or the driver's reason why the context could not be made current.
  int result() const { return result_; }

 private:
  const Driver& driver_;
  bool pushed_ = false;
  int result_ = 0;
};

}  // namespace pynn
