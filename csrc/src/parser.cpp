#include "parser.h"

#include "handle.h"
#include "native.h"

namespace pynn {
namespace {

constexpr abi::Enumerator kFlags[] = {
    abi::number::ParserFlag_NATIVE_INSTANCENORM,
    abi::number::ParserFlag_ENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA,
    abi::number::ParserFlag_REPORT_CAPABILITY_DLA,
    abi::number::ParserFlag_ENABLE_PLUGIN_OVERRIDE,
    abi::number::ParserFlag_ADJUST_FOR_DLA,
};
constexpr int32_t kFlagCount = sizeof(kFlags) / sizeof(*kFlags);
constexpr int32_t kCrashingFlag = 1;
constexpr int32_t kModelUnreadable = 3;

const abi::Enumerator& find_flag(int32_t flag) {
  require(flag >= 0 && flag < kFlagCount, "flag is ", flag, ", allowed are 0 to ", kFlagCount - 1);
  return kFlags[flag];
}

}  // namespace

Parser::Parser(std::shared_ptr<Network> network) : network_(std::move(network)) {
  Logger& logger = network_->logger();
  LogScope log(logger);
  auto* raw = static_cast<abi::Parser*>(logger.library().create_parser(network_->native(), logger.native()));
  native_ = adopt(log, raw, PYNN_TRT_INTERNAL, "cannot create the ONNX parser");
  network_->keep(native_);
}

void Parser::set_flag(int32_t flag, bool on) {
  int32_t number = abi().number(find_flag(flag));
  if (flag == kCrashingFlag && on)
    throw Failure(PYNN_TRT_NOT_SUPPORTED,
                  join(kFlags[flag].name, " is refused: with it the library has been seen to crash"));
  abi().call(on ? abi::slot::Parser_setFlag : abi::slot::Parser_clearFlag, native(), number);
}

bool Parser::get_flag(int32_t flag) const {
  return abi().call(abi::slot::Parser_getFlag, native(), abi().number(find_flag(flag)));
}

void Parser::start(const void* model, uint64_t size) {
  require_bytes(model, size, "model");
  // TensorRT itself takes zero bytes for a model without nodes.
  if (size == 0) throw Failure(PYNN_TRT_PARSE_FAILED, "cannot parse the model: it is empty");
  abi().call(abi::slot::Parser_clearErrors, native());
}

void Parser::require_empty_network() const {
  require(network_->input_count() + network_->layer_count() == 0,
          "the network is not empty: a model needs a network of its own");
}

void Parser::parse(const void* model, uint64_t size, const char* path) {
  start(model, size);
  require_empty_network();
  LogScope log(network_->logger());
  if (!abi().call(abi::slot::Parser_parse, native(), model, size, path))
    throw failure(log, "cannot parse the model");
  require_content();
}

void Parser::require_content() const {
  if (network_->input_count() + network_->output_count() + network_->layer_count() == 0)
    throw Failure(
        PYNN_TRT_PARSE_FAILED,
        "cannot parse the model: it has neither inputs nor outputs nor nodes, so it is hardly ONNX");
}

void Parser::load_model(const void* model, uint64_t size, const char* path) {
  abi().call(abi::slot::Parser_clearErrors, native());
  const auto& load = abi::slot::Parser_loadModelProto;
  if (abi().has(load)) start(model, size);
  LogScope log(network_->logger());
  loaded_ = false;
  if (!abi().call(load, native(), model, size, path)) throw failure(log, "cannot load the model");
  loaded_ = true;
}

void Parser::load_initializer(const char* name, const void* data, uint64_t size) {
  require_text(name, "name");
  require_bytes(data, size, "data");
  require(loaded_ || !abi().has(abi::slot::Parser_loadInitializer),
          "no model was loaded before the initializers");
  LogScope log(network_->logger());
  if (!abi().call(abi::slot::Parser_loadInitializer, native(), name, data, size))
    throw failure(log, join("cannot load the initializer '", name, "'"));
}

void Parser::parse_loaded() {
  require(loaded_ || !abi().has(abi::slot::Parser_parseModelProto), "no model was loaded");
  require_empty_network();
  LogScope log(network_->logger());
  if (!abi().call(abi::slot::Parser_parseModelProto, native())) throw failure(log, "cannot parse the model");
  require_content();
}

bool Parser::supports_model(const void* model, uint64_t size, const char* path, int64_t* subgraphs) {
  start(model, size);
  require_empty_network();
  LogScope log(network_->logger());
  bool supported = abi().call(abi::slot::Parser_supportsModelV2, native(), model, size, path);
  *subgraphs = abi().call(abi::slot::Parser_getNbSubgraphs, native());
  if (supported) require_content();
  if (supported || error_count() == 0) return supported;
  const abi::ParserError* first = abi().call(abi::slot::Parser_getError, native(), 0);
  if (abi::is_object(first) && abi().call(abi::slot::ParserError_code, first) == kModelUnreadable)
    throw failure(log, "cannot read the model");
  return false;
}

const int64_t* Parser::subgraph(int64_t index, bool* supported, int64_t* count) const {
  require_index(index, abi().call(abi::slot::Parser_getNbSubgraphs, native()), "index");
  *supported = abi().call(abi::slot::Parser_isSubgraphSupported, native(), index);
  return abi().call(abi::slot::Parser_getSubgraphNodes, native(), index, count);
}

bool Parser::supports_operator(const char* op_type) const {
  return abi().call(abi::slot::Parser_supportsOperator, native(), require_text(op_type, "op_type"));
}

int32_t Parser::error_count() const { return abi().call(abi::slot::Parser_getNbErrors, native()); }

void read_error(const abi::Abi& abi, const abi::ParserError* error, pynn_trt_parser_error_info* info) {
  pynn_trt_parser_error_info value{};
  value.node = -1;
  value.description = value.file = value.function = value.node_name = value.node_operator = "";
  if (abi::is_object(error)) {
    value.code = abi.call(abi::slot::ParserError_code, error);
    value.line = abi.call(abi::slot::ParserError_line, error);
    value.node = std::max(abi.call(abi::slot::ParserError_node, error), -1);
    value.description = text_or_empty(abi.call(abi::slot::ParserError_desc, error));
    value.file = text_or_empty(abi.call(abi::slot::ParserError_file, error));
    value.function = text_or_empty(abi.call(abi::slot::ParserError_func, error));
    value.node_name = text_or_empty(abi.call(abi::slot::ParserError_nodeName, error));
    value.node_operator = text_or_empty(abi.call(abi::slot::ParserError_nodeOperator, error));
  }
  write_struct(info, value, "info");
}

void Parser::describe_error(int32_t index, pynn_trt_parser_error_info* info) const {
  require_index(index, error_count(), "index");
  read_error(abi(), abi().call(abi::slot::Parser_getError, native(), index), info);
}

Failure parser_failure(const abi::Abi& abi, const LogScope& log, int32_t status, const std::string& what,
                       int32_t count, const abi::ParserError* error) {
  Failure failure = log.failure(status, what);
  if (count == 0) return failure;
  pynn_trt_parser_error_info first{};
  first.struct_size = sizeof(first);
  read_error(abi, error, &first);

  pynn_trt_error& detail = failure.detail;
  detail.message = what + ": ";
  detail.node_name = first.node_name;
  detail.node_operator = first.node_operator;
  if (!detail.node_operator.empty() || !detail.node_name.empty()) {
    detail.node_index = first.node;
    detail.message += join("operator ", detail.node_operator, " (node '", detail.node_name, "', number ",
                           first.node, "): ");
  }
  std::string text = without_noise(first.description);
  detail.message += text.empty() ? join("error code ", first.code) : text;
  if (count > 1)
    detail.message += join(" (and ", count - 1, count == 2 ? " further error)" : " further errors)");
  return failure;
}

Failure Parser::failure(const LogScope& log, const std::string& what) const {
  int32_t count = error_count();
  const abi::ParserError* first = count > 0 ? abi().call(abi::slot::Parser_getError, native(), 0) : nullptr;
  return parser_failure(abi(), log, PYNN_TRT_PARSE_FAILED, what, count, first);
}

}  // namespace pynn

using namespace pynn;

extern "C" {

int32_t pynn_trt_parser_create(pynn_trt_network* network, pynn_trt_parser** parser, pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(parser, "parser");
    result = new pynn_trt_parser{std::make_shared<Parser>(shared(network, "network"))};
  });
}

void pynn_trt_parser_destroy(pynn_trt_parser* parser) { delete parser; }

int32_t pynn_trt_parser_set_flag(pynn_trt_parser* parser, int32_t flag, int32_t on, pynn_trt_error** error) {
  return guard(error, [&] { self(parser, "parser").set_flag(flag, on != 0); });
}

int32_t pynn_trt_parser_get_flag(const pynn_trt_parser* parser, int32_t flag, int32_t* on,
                                 pynn_trt_error** error) {
  return guard(error, [&] {
    const Parser& object = self(parser, "parser");
    out(on, "on") = object.get_flag(flag);
  });
}

int32_t pynn_trt_parser_parse(pynn_trt_parser* parser, const void* model, uint64_t size, const char* path,
                              pynn_trt_error** error) {
  return guard(error, [&] { self(parser, "parser").parse(model, size, path); });
}

int32_t pynn_trt_parser_load_model(pynn_trt_parser* parser, const void* model, uint64_t size,
                                   const char* path, pynn_trt_error** error) {
  return guard(error, [&] { self(parser, "parser").load_model(model, size, path); });
}

int32_t pynn_trt_parser_load_initializer(pynn_trt_parser* parser, const char* name, const void* data,
                                         uint64_t size, pynn_trt_error** error) {
  return guard(error, [&] { self(parser, "parser").load_initializer(name, data, size); });
}

int32_t pynn_trt_parser_parse_loaded(pynn_trt_parser* parser, pynn_trt_error** error) {
  return guard(error, [&] { self(parser, "parser").parse_loaded(); });
}

int32_t pynn_trt_parser_supports_model(pynn_trt_parser* parser, const void* model, uint64_t size,
                                       const char* path, int32_t* supported, int64_t* subgraphs,
                                       pynn_trt_error** error) {
  return guard(error, [&] {
    Parser& object = self(parser, "parser");
    int64_t& count = out(subgraphs, "subgraphs");
    out(supported, "supported") = object.supports_model(model, size, path, &count);
  });
}

int32_t pynn_trt_parser_describe_subgraph(pynn_trt_parser* parser, int64_t index, int32_t* supported,
                                          const int64_t** nodes, int64_t* count, pynn_trt_error** error) {
  return guard(error, [&] {
    const Parser& object = self(parser, "parser");
    int32_t& answer = out(supported, "supported");
    bool is_supported = false;
    out(nodes, "nodes") = object.subgraph(index, &is_supported, &out(count, "count"));
    answer = is_supported;
  });
}

int32_t pynn_trt_parser_supports_operator(pynn_trt_parser* parser, const char* op_type, int32_t* supported,
                                          pynn_trt_error** error) {
  return guard(error, [&] {
    const Parser& object = self(parser, "parser");
    out(supported, "supported") = object.supports_operator(op_type);
  });
}

int32_t pynn_trt_parser_error_count(const pynn_trt_parser* parser, int32_t* count, pynn_trt_error** error) {
  return guard(error, [&] {
    const Parser& object = self(parser, "parser");
    out(count, "count") = object.error_count();
  });
}

int32_t pynn_trt_parser_describe_error(const pynn_trt_parser* parser, int32_t index,
                                       pynn_trt_parser_error_info* info, pynn_trt_error** error) {
  return guard(error, [&] { self(parser, "parser").describe_error(index, info); });
}
}
