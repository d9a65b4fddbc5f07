// A real TensorRT for RTX, on a machine with or without a GPU: library, logger, network and parser.
// PYNN_TENSORRT_LIBRARY_DIR names its folder.
#include "real.h"

#include <set>

using namespace test;

TEST(open_and_describe) {
  Opened opened;
  open(&opened);
  auto info = sized<pynn_trt_library_info>();
  OK(pynn_trt_library_describe(opened.library, &info, &error));
  CHECK_EQ(info.flavor, PYNN_TRT_FLAVOR_RTX);
  CHECK_EQ(info.major, 1);
  CHECK_EQ(info.forced, 0);
  CHECK_EQ(info.generation, info.minor <= 4 ? 'A' : 'B');
  CHECK(info.parser_version > 0);
  CHECK_EQ(std::string(info.parser_error), "");
  CHECK_HAS(std::string(info.path), "libtensorrt_rtx.so");
  std::printf("  TensorRT-RTX %d.%d.%d.%d\n", info.major, info.minor, info.patch, info.build);
}

TEST(without_a_parser) {
  Opened opened;
  open(&opened, false);
  Network network;
  Parser parser;
  OK(pynn_trt_network_create(opened.builder, &network, &error));
  STATUS(PARSER_UNAVAILABLE, pynn_trt_parser_create(network, &parser, &error));
  CHECK(parser.raw == nullptr);
}

TEST(logger_takes_its_own_lines) {
  Opened opened;
  open(&opened);
  Logger second;
  OK(pynn_trt_logger_create(opened.library, 4, 100, &second, &error));
  Builder builder;
  OK(pynn_trt_builder_create(second, &builder, &error));
  Opened other;
  open(&other);
  build(other, onnx::relu());

  auto line = sized<pynn_trt_log_line>();
  int32_t available = 0, lines = 0;
  uint64_t previous = 0;
  for (;;) {
    OK(pynn_trt_logger_poll(other.logger, &line, &available, &error));
    if (!available) break;
    CHECK(lines == 0 || line.sequence > previous);
    CHECK(line.severity <= 3 && std::strlen(line.text) > 0);
    CHECK(!contains(line.text, "differs from one already registered"));
    previous = line.sequence;
    ++lines;
  }
  CHECK(lines > 3);
  OK(pynn_trt_logger_poll(second, &line, &available, &error));
  CHECK_EQ(available, 0);
}

TEST(parse_and_describe_the_network) {
  Opened opened;
  open(&opened);
  Model model;
  load(opened, onnx::linear(), &model);
  int32_t inputs, outputs, layers;
  OK(pynn_trt_network_count(model.network, &inputs, &outputs, &layers, &error));
  CHECK_EQ(inputs, 1);
  CHECK_EQ(outputs, 1);
  CHECK(layers >= 2);

  auto info = sized<pynn_trt_tensor_info>();
  OK(pynn_trt_network_describe_input(model.network, 0, &info, &error));
  CHECK_EQ(std::string(info.name), "x");
  CHECK_EQ(info.data_type, PYNN_TRT_FLOAT32);
  CHECK_EQ(info.rank, 2);
  CHECK(info.dims[0] == 2 && info.dims[1] == 3 && info.dims[2] == 0);
  CHECK(info.is_input == 1 && info.is_output == 0 && info.is_shape_tensor == 0);
  OK(pynn_trt_network_describe_output(model.network, 0, &info, &error));
  CHECK_EQ(std::string(info.name), "y");
  CHECK(info.dims[0] == 2 && info.dims[1] == 4);
  CHECK(info.is_input == 0 && info.is_output == 1);

  std::set<std::string> names;
  for (int32_t i = 0; i < layers; ++i) {
    auto layer = sized<pynn_trt_layer_info>();
    OK(pynn_trt_network_describe_layer(model.network, i, &layer, &error));
    names.insert(layer.name);
    for (int32_t j = 0; j < layer.input_count; ++j)
      OK(pynn_trt_network_describe_layer_input(model.network, i, j, &info, &error));
    for (int32_t j = 0; j < layer.output_count; ++j)
      OK(pynn_trt_network_describe_layer_output(model.network, i, j, &info, &error));
    STATUS(INVALID_ARGUMENT,
           pynn_trt_network_describe_layer_output(model.network, i, layer.output_count, &info, &error));
  }
  CHECK(names.count("matmul_1") == 1 && names.count("add_1") == 1);
  STATUS(INVALID_ARGUMENT, pynn_trt_network_describe_input(model.network, 1, &info, &error));
  CHECK_HAS(error.message(), "index is 1");
  STATUS(INVALID_ARGUMENT, pynn_trt_network_describe_layer(model.network, -1, nullptr, &error));
}

TEST(mark_and_unmark_outputs) {
  Opened opened;
  open(&opened);
  Model model;
  load(opened, onnx::linear(), &model);
  OK(pynn_trt_network_mark_output(model.network, "t", &error));
  OK(pynn_trt_network_mark_output(model.network, "t", &error));
  int32_t inputs, outputs, layers;
  OK(pynn_trt_network_count(model.network, &inputs, &outputs, &layers, &error));
  CHECK_EQ(outputs, 2);
  OK(pynn_trt_network_unmark_output(model.network, "t", &error));
  OK(pynn_trt_network_count(model.network, &inputs, &outputs, &layers, &error));
  CHECK_EQ(outputs, 1);
  STATUS(INVALID_ARGUMENT, pynn_trt_network_unmark_output(model.network, "t", &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_network_mark_output(model.network, "nobody", &error));
  CHECK_HAS(error.message(), "nobody");
  STATUS(INVALID_ARGUMENT, pynn_trt_network_mark_output(model.network, nullptr, &error));
}

TEST(refused_models) {
  Opened opened;
  open(&opened);
  STATUS(PARSE_FAILED, parse(opened, ""));
  STATUS(PARSE_FAILED, parse(opened, std::string("\xff\xff\xff\xff", 4)));
  STATUS(PARSE_FAILED, parse(opened, "hello this is not onnx at all"));
  STATUS(PARSE_FAILED, parse(opened, onnx::linear().substr(0, 100)));

  using namespace onnx;
  std::string unknown =
      model({{node("Relu", {"x"}, {"t"}, "r"), node("Nonsense", {"t"}, {"y"}, "nonsense_1")},
             {},
             {value_info("x", {2, 3})},
             {value_info("y", {2, 3})}});
  STATUS(PARSE_FAILED, parse(opened, unknown));
  CHECK_EQ(std::string(pynn_trt_error_node_operator(error.raw)), "Nonsense");
  CHECK_EQ(std::string(pynn_trt_error_node_name(error.raw)), "nonsense_1");
  CHECK_EQ(pynn_trt_error_node_index(error.raw), 1);
  CHECK_HAS(error.message(), "Nonsense (node 'nonsense_1', number 1)");
  CHECK(!error.log().empty());

  std::string mismatch = model({{node("MatMul", {"x", "x"}, {"y"}, "mm_1")},
                                {},
                                {value_info("x", {2, 3})},
                                {value_info("y", {2, 3})}});
  STATUS(PARSE_FAILED, parse(opened, mismatch));
  CHECK_HAS(error.message(), "must match");
  CHECK(!contains(error.message(), "catchCudaError"));

  Network network;
  Parser parser;
  OK(pynn_trt_network_create(opened.builder, &network, &error));
  OK(pynn_trt_parser_create(network, &parser, &error));
  STATUS(PARSE_FAILED, pynn_trt_parser_parse(parser, unknown.data(), unknown.size(), nullptr, &error));
  int32_t count = 0;
  OK(pynn_trt_parser_error_count(parser, &count, &error));
  CHECK(count >= 1);
  auto info = sized<pynn_trt_parser_error_info>();
  STATUS(INVALID_ARGUMENT, pynn_trt_parser_parse(parser, mismatch.data(), mismatch.size(), nullptr, &error));
  CHECK_HAS(error.message(), "not empty");
  OK(pynn_trt_network_create(opened.builder, &network, &error));
  OK(pynn_trt_parser_create(network, &parser, &error));
  STATUS(PARSE_FAILED, pynn_trt_parser_parse(parser, unknown.data(), unknown.size(), nullptr, &error));
  OK(pynn_trt_parser_describe_error(parser, 0, &info, &error));
  CHECK_EQ(std::string(info.node_operator), "Nonsense");
  CHECK(info.node == 1 && info.code > 0 && info.line > 0 && std::strlen(info.description) > 0);
  STATUS(INVALID_ARGUMENT, pynn_trt_parser_describe_error(parser, count, &info, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_parser_parse(parser, nullptr, 10, nullptr, &error));
}

TEST(supported_models_and_operators) {
  Opened opened;
  open(&opened);
  Network network;
  Parser parser;
  OK(pynn_trt_network_create(opened.builder, &network, &error));
  OK(pynn_trt_parser_create(network, &parser, &error));
  int32_t supported = -1;
  OK(pynn_trt_parser_supports_operator(parser, "Relu", &supported, &error));
  CHECK_EQ(supported, 1);
  OK(pynn_trt_parser_supports_operator(parser, "Nonsense", &supported, &error));
  CHECK_EQ(supported, 0);

  int64_t subgraphs = 0, count = 0;
  const int64_t* nodes = nullptr;
  std::string good = onnx::linear();
  OK(pynn_trt_parser_supports_model(parser, good.data(), good.size(), nullptr, &supported, &subgraphs,
                                    &error));
  CHECK_EQ(supported, 1);
  REQUIRE(subgraphs == 1);
  OK(pynn_trt_parser_describe_subgraph(parser, 0, &supported, &nodes, &count, &error));
  REQUIRE(supported == 1 && count == 2);
  CHECK(nodes[0] == 0 && nodes[1] == 1);
  STATUS(INVALID_ARGUMENT, pynn_trt_parser_describe_subgraph(parser, 1, &supported, &nodes, &count, &error));

  using namespace onnx;
  std::string partly = model({{node("Relu", {"x"}, {"t"}, "r"), node("Nonsense", {"t"}, {"u"}, "n"),
                               node("Relu", {"u"}, {"y"}, "s")},
                              {},
                              {value_info("x", {2, 3})},
                              {value_info("y", {2, 3})}});
  Network second;
  OK(pynn_trt_network_create(opened.builder, &second, &error));
  OK(pynn_trt_parser_create(second, &parser, &error));
  OK(pynn_trt_parser_supports_model(parser, partly.data(), partly.size(), nullptr, &supported, &subgraphs,
                                    &error));
  CHECK_EQ(supported, 0);
  STATUS(INVALID_ARGUMENT, pynn_trt_parser_supports_model(parser, good.data(), good.size(), nullptr,
                                                          &supported, &subgraphs, &error));
  Network third;
  OK(pynn_trt_network_create(opened.builder, &third, &error));
  OK(pynn_trt_parser_create(third, &parser, &error));
  std::string junk("\xff\xff\xff\xff", 4);
  STATUS(PARSE_FAILED, pynn_trt_parser_supports_model(parser, junk.data(), junk.size(), nullptr, &supported,
                                                      &subgraphs, &error));
}

TEST(parser_flags) {
  Opened opened;
  open(&opened);
  Network network;
  Parser parser;
  OK(pynn_trt_network_create(opened.builder, &network, &error));
  OK(pynn_trt_parser_create(network, &parser, &error));
  int32_t on = -1;
  OK(pynn_trt_parser_set_flag(parser, 0, 1, &error));
  OK(pynn_trt_parser_get_flag(parser, 0, &on, &error));
  CHECK_EQ(on, 1);
  OK(pynn_trt_parser_set_flag(parser, 0, 0, &error));
  OK(pynn_trt_parser_get_flag(parser, 0, &on, &error));
  CHECK_EQ(on, 0);
  STATUS(NOT_SUPPORTED, pynn_trt_parser_set_flag(parser, 1, 1, &error));
  OK(pynn_trt_parser_set_flag(parser, 1, 0, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_parser_set_flag(parser, 5, 1, &error));
}

TEST(initializers_in_the_callers_memory) {
  Opened opened;
  open(&opened);
  using namespace onnx;
  std::vector<float> weights(12, 0.5f);
  std::string bytes = model({{node("MatMul", {"x", "w"}, {"y"}, "matmul_1")},
                             {external_tensor("w", {3, 4}, 48)},
                             {value_info("x", {2, 3})},
                             {value_info("y", {2, 4})}});
  Model model;
  OK(pynn_trt_network_create(opened.builder, &model.network, &error));
  OK(pynn_trt_parser_create(model.network, &model.parser, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_parser_parse_loaded(model.parser, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_parser_load_initializer(model.parser, "w", weights.data(), 48, &error));
  OK(pynn_trt_parser_load_model(model.parser, bytes.data(), bytes.size(), nullptr, &error));
  OK(pynn_trt_parser_load_initializer(model.parser, "w", weights.data(), 48, &error));
  OK(pynn_trt_parser_parse_loaded(model.parser, &error));
  OK(pynn_trt_config_create(opened.builder, &model.config, &error));
  int32_t capabilities[] = {86};
  OK(pynn_trt_config_set_compute_capabilities(model.config, capabilities, 1, &error));
  model.parser.reset();
  Blob plan;
  OK(pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));
  CHECK(pynn_trt_blob_size(plan) > 48);
}

int main(int, char** arguments) {
  std::string folder = environment("PYNN_TENSORRT_LIBRARY_DIR");
  if (folder.empty()) {
    bool required = environment("PYNN_REQUIRE_TENSORRT") == "1";
    std::printf("%s: PYNN_TENSORRT_LIBRARY_DIR is not set\n", required ? "failed" : "skipped");
    return required ? 1 : 77;
  }
  core_path = folder + "/libtensorrt_rtx.so.1";
  parser_path = folder + "/libtensorrt_onnxparser_rtx.so.1";
  return run_all(arguments[1] ? arguments[1] : "");
}
