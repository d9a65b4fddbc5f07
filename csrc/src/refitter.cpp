#include "refitter.h"

#include "handle.h"
#include "native.h"
#include "parser.h"

namespace pynn {

Refitter::Refitter(std::shared_ptr<Engine> engine) : engine_(std::move(engine)) {
  require(abi().call(abi::slot::Engine_isRefittable, engine_->native()),
          "the engine was built without the flag REFIT: its weights cannot be replaced");
  LogScope log(logger());
  auto* raw =
      static_cast<abi::Refitter*>(logger().library().create_refitter(engine_->native(), logger().native()));
  native_ = adopt(log, raw, PYNN_TRT_INTERNAL, "cannot create the refitter");
  prove(logger(), native_, abi::slot::Refitter_getPImpl, native_.get());
  prove(logger(), native_, abi::slot::Refitter_getLogger, logger().native());
}

const std::vector<const char*>& Refitter::names(bool missing) {
  const auto& method = missing ? abi::slot::Refitter_getMissingWeights : abi::slot::Refitter_getAllWeights;
  LogScope log(logger());
  int32_t count = std::max(abi().call(method, native_.get(), 0, nullptr), 0);
  names_.assign(static_cast<size_t>(count), nullptr);
  if (count > 0) count = abi().call(method, native_.get(), count, names_.data());
  names_.resize(std::min(names_.size(), static_cast<size_t>(std::max(count, 0))));
  for (const char*& name : names_) name = text_or_empty(name);
  return names_;
}

void Refitter::describe(const char* name, pynn_trt_weight_info* info) const {
  LogScope log(logger());
  abi::Weights found =
      abi().call(abi::slot::Refitter_getWeightsPrototype, native_.get(), require_text(name, "name"));
  if (found.count <= 0)
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT, join("the engine has no weights '", name, "'"));
  pynn_trt_weight_info value{};
  value.data_type = found.type;
  value.count = found.count;
  write_struct(info, value, "info");
}

void Refitter::set(const char* name, int32_t type, const void* values, int64_t count) {
  require_text(name, "name");
  require(values != nullptr && count > 0, "there are no values for the weights '", name, "'");
  LogScope log(logger());
  if (!abi().call(abi::slot::Refitter_setNamedWeights, native_.get(), name,
                  abi::Weights{type, values, count}))
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT, join("cannot replace the weights '", name, "'"));
}

const abi::ParserRefitter* Refitter::parser() {
  if (parser_ == nullptr) {
    LogScope log(logger());
    void* raw = logger().library().create_parser_refitter(native_.get(), logger().native());
    parser_ = adopt(log, static_cast<abi::ParserRefitter*>(raw), PYNN_TRT_INTERNAL,
                    "cannot create the ONNX parser's refitter");
  }
  abi().call(abi::slot::ParserRefitter_clearErrors, parser_.get());
  return parser_.get();
}

Failure Refitter::parser_failed(const LogScope& log, const std::string& what) const {
  int32_t count = abi().call(abi::slot::ParserRefitter_getNbErrors, parser_.get());
  const abi::ParserError* first =
      count > 0 ? abi().call(abi::slot::ParserRefitter_getError, parser_.get(), 0) : nullptr;
  return parser_failure(abi(), log, PYNN_TRT_PARSE_FAILED, what, count, first);
}

void Refitter::set_from_model(const void* model, uint64_t size, const char* path) {
  require(model != nullptr && size > 0, "the model is empty");
  const abi::ParserRefitter* native = parser();
  LogScope log(logger());
  if (!abi().call(abi::slot::ParserRefitter_refitFromBytes, native, model, size, path))
    throw parser_failed(log, "cannot take the weights of the model");
}

void Refitter::load_model(const void* model, uint64_t size, const char* path) {
  require(model != nullptr && size > 0, "the model is empty");
  const abi::ParserRefitter* native = parser();
  loaded_ = false;
  LogScope log(logger());
  if (!abi().call(abi::slot::ParserRefitter_loadModelProto, native, model, size, path))
    throw parser_failed(log, "cannot load the model");
  loaded_ = true;
}

void Refitter::load_initializer(const char* name, const void* data, uint64_t size) {
  require_text(name, "name");
  require_bytes(data, size, "data");
  require(loaded_, "no model was loaded before the initializers");
  LogScope log(logger());
  if (!abi().call(abi::slot::ParserRefitter_loadInitializer, parser_.get(), name, data, size))
    throw parser_failed(log, join("cannot load the initializer '", name, "'"));
}

void Refitter::set_from_loaded() {
  require(loaded_, "no model was loaded");
  LogScope log(logger());
  if (!abi().call(abi::slot::ParserRefitter_refitModelProto, parser_.get()))
    throw parser_failed(log, "cannot take the weights of the model");
}

void Refitter::refit() {
  LogScope log(logger());
  if (!abi().call(abi::slot::Refitter_refitCudaEngine, native_.get()))
    throw log.failure(PYNN_TRT_BUILD_FAILED, "cannot refit the engine");
}

}  // namespace pynn

using namespace pynn;

extern "C" {

int32_t pynn_trt_refitter_create(pynn_trt_engine* engine, pynn_trt_refitter** refitter,
                                 pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(refitter, "refitter");
    result = new pynn_trt_refitter{std::make_shared<Refitter>(shared(engine, "engine"))};
  });
}

void pynn_trt_refitter_destroy(pynn_trt_refitter* refitter) { delete refitter; }

int32_t pynn_trt_refitter_list(pynn_trt_refitter* refitter, int32_t missing, const char* const** names,
                               int32_t* count, pynn_trt_error** error) {
  return guard(error, [&] {
    Refitter& object = self(refitter, "refitter");
    auto& list = out(names, "names");
    int32_t& size = out(count, "count");
    const auto& found = object.names(missing != 0);
    list = found.data();
    size = static_cast<int32_t>(found.size());
  });
}

int32_t pynn_trt_refitter_describe(const pynn_trt_refitter* refitter, const char* name,
                                   pynn_trt_weight_info* info, pynn_trt_error** error) {
  return guard(error, [&] { self(refitter, "refitter").describe(name, info); });
}

int32_t pynn_trt_refitter_set(pynn_trt_refitter* refitter, const char* name, int32_t data_type,
                              const void* values, int64_t count, pynn_trt_error** error) {
  return guard(error, [&] { self(refitter, "refitter").set(name, data_type, values, count); });
}

int32_t pynn_trt_refitter_set_from_model(pynn_trt_refitter* refitter, const void* model, uint64_t size,
                                         const char* path, pynn_trt_error** error) {
  return guard(error, [&] { self(refitter, "refitter").set_from_model(model, size, path); });
}

int32_t pynn_trt_refitter_load_model(pynn_trt_refitter* refitter, const void* model, uint64_t size,
                                     const char* path, pynn_trt_error** error) {
  return guard(error, [&] { self(refitter, "refitter").load_model(model, size, path); });
}

int32_t pynn_trt_refitter_load_initializer(pynn_trt_refitter* refitter, const char* name, const void* data,
                                           uint64_t size, pynn_trt_error** error) {
  return guard(error, [&] { self(refitter, "refitter").load_initializer(name, data, size); });
}

int32_t pynn_trt_refitter_set_from_loaded(pynn_trt_refitter* refitter, pynn_trt_error** error) {
  return guard(error, [&] { self(refitter, "refitter").set_from_loaded(); });
}

int32_t pynn_trt_refitter_refit(pynn_trt_refitter* refitter, pynn_trt_error** error) {
  return guard(error, [&] { self(refitter, "refitter").refit(); });
}
}
