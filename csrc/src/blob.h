// Bytes owned by TensorRT or by the shim.
#pragma once

#include "logger.h"

namespace pynn {

class Blob {
 public:
  Blob(std::shared_ptr<Logger> logger, abi::Owned<abi::HostMemory> memory);
  explicit Blob(std::string text);

  const void* data() const { return data_; }
  uint64_t size() const { return size_; }

 private:
  std::shared_ptr<Logger> logger_;
  abi::Owned<abi::HostMemory> memory_;
  std::string text_;
  const void* data_;
  uint64_t size_;
};

}  // namespace pynn
