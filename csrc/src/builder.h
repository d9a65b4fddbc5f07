// IBuilder.
#pragma once

#include "blob.h"
#include "logger.h"

namespace pynn {

class Network;
class Config;

class Builder {
 public:
  explicit Builder(std::shared_ptr<Logger> logger);

  Logger& logger() const { return *logger_; }
  const abi::Abi& abi() const { return logger_->abi(); }
  abi::Builder* native() const { return native_.get(); }

  void set_max_threads(int32_t threads);
  std::shared_ptr<Blob> build(const Network& network, const Config& config);

 private:
  std::shared_ptr<Logger> logger_;
  abi::Owned<abi::Builder> native_;
};

}  // namespace pynn
