// IRefitter and the ONNX parser's refitter on top of it: new weights for an engine.
#pragma once

#include <vector>

#include "engine.h"

struct pynn_trt_weight_info;

namespace pynn {

class Refitter {
 public:
  explicit Refitter(std::shared_ptr<Engine> engine);

  // The names stay valid until the next call.
  const std::vector<const char*>& names(bool missing);
  void describe(const char* name, pynn_trt_weight_info* info) const;
  void set(const char* name, int32_t type, const void* values, int64_t count);
  void set_from_model(const void* model, uint64_t size, const char* path);
  void load_model(const void* model, uint64_t size, const char* path);
  void load_initializer(const char* name, const void* data, uint64_t size);
  void set_from_loaded();
  void refit();

 private:
  const abi::Abi& abi() const { return engine_->abi(); }
  Logger& logger() const { return engine_->logger(); }
  // Made when it is first needed, without the errors of earlier calls.
  const abi::ParserRefitter* parser();
  Failure parser_failed(const LogScope& log, const std::string& what) const;

  std::shared_ptr<Engine> engine_;
  abi::Owned<abi::Refitter> native_;
  abi::Owned<abi::ParserRefitter> parser_;
  std::vector<const char*> names_;
  bool loaded_ = false;
};

}  // namespace pynn
