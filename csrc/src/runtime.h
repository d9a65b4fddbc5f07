// IRuntime.
#pragma once

#include "logger.h"

namespace pynn {

class Runtime {
 public:
  explicit Runtime(std::shared_ptr<Logger> logger);

  const std::shared_ptr<Logger>& logger() const { return logger_; }
  const abi::Abi& abi() const { return logger_->abi(); }
  abi::Owned<abi::Engine> deserialize(const void* plan, uint64_t size) const;
  int32_t check_plan(const void* plan, uint64_t size, uint64_t* diagnostics) const;

 private:
  std::shared_ptr<Logger> logger_;
  abi::Owned<abi::Runtime> native_;
};

}  // namespace pynn
