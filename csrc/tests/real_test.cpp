// Against a real TensorRT for RTX, on a machine with or without a GPU. PYNN_TENSORRT_LIBRARY_DIR names its
// folder.
#include <filesystem>
#include <set>
#include <thread>

#include "harness.h"
#include "onnx_bytes.h"

using namespace test;

namespace {

std::string core_path, parser_path;
thread_local Error error;

struct Opened {
  Library library;
  Logger logger;
  Builder builder;
};

void open(Opened* opened, bool with_parser = true) {
  auto options = sized<pynn_trt_library_options>();
  options.core_path = core_path.c_str();
  options.parser_path = with_parser ? parser_path.c_str() : nullptr;
  OK(pynn_trt_library_open(&options, &opened->library, &error));
  OK(pynn_trt_logger_create(opened->library, 3, 1000, &opened->logger, &error));
  OK(pynn_trt_builder_create(opened->logger, &opened->builder, &error));
}

struct Model {
  Network network;
  Parser parser;
  Config config;
};

void load(Opened& opened, const std::string& bytes, Model* model) {
  OK(pynn_trt_network_create(opened.builder, &model->network, &error));
  OK(pynn_trt_parser_create(model->network, &model->parser, &error));
  OK(pynn_trt_parser_parse(model->parser, bytes.data(), bytes.size(), nullptr, &error));
  OK(pynn_trt_config_create(opened.builder, &model->config, &error));
  int32_t capabilities[] = {86};
  OK(pynn_trt_config_set_compute_capabilities(model->config, capabilities, 1, &error));
}

std::string build(Opened& opened, const std::string& bytes) {
  Model model;
  load(opened, bytes, &model);
  Blob plan;
  OK(pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));
  return {static_cast<const char*>(pynn_trt_blob_data(plan)), pynn_trt_blob_size(plan)};
}

int32_t parse(Opened& opened, const std::string& bytes) {
  Network network;
  Parser parser;
  OK(pynn_trt_network_create(opened.builder, &network, &error));
  OK(pynn_trt_parser_create(network, &parser, &error));
  return pynn_trt_parser_parse(parser, bytes.data(), bytes.size(), nullptr, &error);
}

bool has_gpu() { return std::filesystem::exists("/dev/nvidiactl"); }

}  // namespace

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

TEST(build_for_compute_capabilities) {
  Opened opened;
  open(&opened);
  Model model;
  load(opened, onnx::linear(), &model);
  for (std::vector<int32_t> capabilities : {std::vector<int32_t>{86}, {89}, {120}, {86, 120}}) {
    int32_t count = static_cast<int32_t>(capabilities.size());
    OK(pynn_trt_config_set_compute_capabilities(model.config, capabilities.data(), count, &error));
    Blob plan;
    OK(pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));
    REQUIRE(pynn_trt_blob_size(plan) > 4);
    CHECK_EQ(std::memcmp(pynn_trt_blob_data(plan), "vtrt", 4), 0);
  }
  int32_t unknown[] = {90};
  STATUS(INVALID_ARGUMENT, pynn_trt_config_set_compute_capabilities(model.config, unknown, 1, &error));
  CHECK_HAS(error.message(), "90");
  STATUS(INVALID_ARGUMENT, pynn_trt_config_set_compute_capabilities(model.config, unknown, 0, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_config_set_compute_capabilities(model.config, nullptr, 1, &error));
  Blob plan;
  OK(pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));
  if (has_gpu()) return;
  int32_t here[] = {0};
  OK(pynn_trt_config_set_compute_capabilities(model.config, here, 1, &error));
  STATUS(DEVICE_UNSUPPORTED,
         pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));
  CHECK(plan.raw == nullptr);
}

TEST(config_round_trips) {
  Opened opened;
  open(&opened);
  Config config;
  OK(pynn_trt_config_create(opened.builder, &config, &error));
  for (int32_t flag = 0; flag <= PYNN_TRT_FLAG_REQUIRE_USER_ALLOCATION; ++flag) {
    int32_t before = -1, on = -1;
    OK(pynn_trt_config_get_flag(config, flag, &before, &error));
    CHECK_EQ(before, flag == PYNN_TRT_FLAG_TF32 ? 1 : 0);
    // Needs VERSION_COMPATIBLE.
    if (flag == PYNN_TRT_FLAG_EXCLUDE_LEAN_RUNTIME) continue;
    int32_t status = pynn_trt_config_set_flag(config, flag, !before, &error);
    CHECK(status == PYNN_TRT_OK || status == PYNN_TRT_INVALID_ARGUMENT);
    OK(pynn_trt_config_get_flag(config, flag, &on, &error));
    CHECK_EQ(on, status == PYNN_TRT_OK ? !before : before);
    OK(pynn_trt_config_set_flag(config, flag, before, &error));
  }
  STATUS(INVALID_ARGUMENT, pynn_trt_config_set_flag(config, PYNN_TRT_FLAG_EXCLUDE_LEAN_RUNTIME, 1, &error));
  CHECK_HAS(error.message(), "VERSION_COMPATIBLE");
  STATUS(INVALID_ARGUMENT, pynn_trt_config_set_flag(config, 21, 1, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_config_set_flag(config, -1, 1, &error));

  uint64_t bytes = 0;
  OK(pynn_trt_config_set_memory_pool(config, PYNN_TRT_POOL_WORKSPACE, 1 << 26, &error));
  OK(pynn_trt_config_get_memory_pool(config, PYNN_TRT_POOL_WORKSPACE, &bytes, &error));
  CHECK_EQ(bytes, uint64_t{1} << 26);
  STATUS(INVALID_ARGUMENT,
         pynn_trt_config_set_memory_pool(config, PYNN_TRT_POOL_DLA_LOCAL_DRAM, 1 << 26, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_config_set_memory_pool(config, 6, 1, &error));

  int32_t level = -1;
  for (int32_t wanted = 0; wanted <= 5; ++wanted) {
    OK(pynn_trt_config_set_optimization_level(config, wanted, &error));
    OK(pynn_trt_config_get_optimization_level(config, &level, &error));
    CHECK_EQ(level, wanted);
  }
  OK(pynn_trt_config_set_optimization_level(config, 3, &error));
  for (int32_t wrong : {-1, 99})
    STATUS(INVALID_ARGUMENT, pynn_trt_config_set_optimization_level(config, wrong, &error));
  OK(pynn_trt_config_get_optimization_level(config, &level, &error));
  CHECK_EQ(level, 3);
  for (int32_t wanted : {2, 1, 0}) {
    OK(pynn_trt_config_set_profiling_verbosity(config, wanted, &error));
    OK(pynn_trt_config_get_profiling_verbosity(config, &level, &error));
    CHECK_EQ(level, wanted);
  }
  STATUS(INVALID_ARGUMENT, pynn_trt_config_set_profiling_verbosity(config, 3, &error));
  OK(pynn_trt_config_set_max_aux_streams(config, 2, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_config_set_max_aux_streams(config, -2, &error));
  OK(pynn_trt_builder_set_max_threads(opened.builder, 2, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_builder_set_max_threads(opened.builder, 0, &error));
}

TEST(dynamic_shapes) {
  Opened opened;
  open(&opened);
  Model model;
  load(opened, onnx::linear(-1), &model);
  auto info = sized<pynn_trt_tensor_info>();
  OK(pynn_trt_network_describe_input(model.network, 0, &info, &error));
  CHECK_EQ(info.dims[0], -1);
  Blob plan;
  STATUS(BUILD_FAILED, pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));
  CHECK_HAS(error.message(), "profile");

  Profile profile;
  OK(pynn_trt_profile_create(opened.builder, &profile, &error));
  int64_t low[] = {1, 3}, best[] = {4, 3}, high[] = {16, 3}, negative[] = {-1, 3};
  OK(pynn_trt_profile_set_dimensions(profile, "x", PYNN_TRT_PROFILE_MIN, low, 2, &error));
  int32_t valid = -1;
  OK(pynn_trt_profile_is_valid(profile, &valid, &error));
  OK(pynn_trt_profile_set_dimensions(profile, "x", PYNN_TRT_PROFILE_OPT, best, 2, &error));
  OK(pynn_trt_profile_set_dimensions(profile, "x", PYNN_TRT_PROFILE_MAX, high, 2, &error));
  OK(pynn_trt_profile_is_valid(profile, &valid, &error));
  CHECK_EQ(valid, 1);
  STATUS(INVALID_ARGUMENT, pynn_trt_profile_set_dimensions(profile, "x", 3, high, 2, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_profile_set_dimensions(profile, "x", 0, high, 9, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_profile_set_dimensions(profile, "x", 0, negative, 2, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_profile_set_dimensions(profile, nullptr, 0, high, 2, &error));
  int64_t values[] = {2, 3};
  OK(pynn_trt_profile_set_shape_values(profile, "s", PYNN_TRT_PROFILE_MIN, values, 2, &error));
  Profile second;
  OK(pynn_trt_profile_create(opened.builder, &second, &error));
  OK(pynn_trt_profile_set_dimensions(second, "x", PYNN_TRT_PROFILE_MIN, low, 2, &error));
  OK(pynn_trt_profile_set_dimensions(second, "x", PYNN_TRT_PROFILE_OPT, best, 2, &error));
  OK(pynn_trt_profile_set_dimensions(second, "x", PYNN_TRT_PROFILE_MAX, high, 2, &error));
  int32_t index = -1;
  OK(pynn_trt_config_add_profile(model.config, second, &index, &error));
  CHECK_EQ(index, 0);
  second.reset();
  OK(pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));

  Opened other;
  open(&other);
  STATUS(INVALID_ARGUMENT, pynn_trt_builder_build(other.builder, model.network, model.config, &plan, &error));
  Config foreign;
  OK(pynn_trt_config_create(other.builder, &foreign, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_config_add_profile(foreign, profile, &index, &error));
}

TEST(timing_cache) {
  Opened opened;
  open(&opened);
  Model model;
  load(opened, onnx::linear(), &model);
  Blob cache, plan;
  STATUS(INVALID_ARGUMENT, pynn_trt_config_get_timing_cache(model.config, &cache, &error));
  OK(pynn_trt_config_set_timing_cache(model.config, nullptr, 0, &error));
  OK(pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));
  OK(pynn_trt_config_get_timing_cache(model.config, &cache, &error));
  REQUIRE(pynn_trt_blob_size(cache) > 0);
  OK(pynn_trt_config_set_timing_cache(model.config, pynn_trt_blob_data(cache), pynn_trt_blob_size(cache),
                                      &error));
  cache.reset();
  OK(pynn_trt_config_set_timing_cache(model.config, "damaged", 7, &error));
  OK(pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));
}

TEST(progress_and_cancelling) {
  Opened opened;
  open(&opened);
  Model model;
  load(opened, onnx::linear(), &model);
  Progress progress;
  OK(pynn_trt_progress_create(&progress, &error));
  OK(pynn_trt_config_set_progress(model.config, progress, &error));
  Blob plan;
  OK(pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));
  std::vector<pynn_trt_progress_event> events(4096, sized<pynn_trt_progress_event>());
  int32_t count = 0, dropped = -1, started = 0, finished = 0;
  OK(pynn_trt_progress_poll(progress, events.data(), 1, &count, &dropped, &error));
  REQUIRE(count == 1 && events[0].kind == 0 && events[0].steps > 0);
  CHECK_EQ(std::string(events[0].parent), "");
  OK(pynn_trt_progress_poll(progress, events.data(), 4096, &count, &dropped, &error));
  CHECK_EQ(dropped, 0);
  for (int32_t i = 0; i < count; ++i) {
    started += events[static_cast<size_t>(i)].kind == 0;
    finished += events[static_cast<size_t>(i)].kind == 2;
  }
  CHECK(count > 2);
  CHECK_EQ(started + 1, finished);

  pynn_trt_progress_cancel(progress);
  progress.reset();
  STATUS(CANCELLED, pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));
  OK(pynn_trt_config_set_progress(model.config, nullptr, &error));
  OK(pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));
}

TEST(runtime_and_bad_plans) {
  Opened opened;
  open(&opened);
  std::string plan = build(opened, onnx::linear());
  Runtime runtime;
  OK(pynn_trt_runtime_create(opened.logger, &runtime, &error));
  Engine engine;
  auto read = [&](const std::string& bytes) {
    return pynn_trt_runtime_deserialize(runtime, bytes.data(), bytes.size(), &engine, &error);
  };
  STATUS(PLAN_INVALID, read(""));
  STATUS(PLAN_INVALID, read("abc"));
  STATUS(PLAN_INVALID, read(std::string(1000, 'x')));
  STATUS(PLAN_INVALID, read(plan.substr(0, plan.size() / 2)));
  STATUS(INVALID_ARGUMENT, pynn_trt_runtime_deserialize(runtime, nullptr, 10, &engine, &error));
  CHECK(engine.raw == nullptr);
  int32_t validity = -1;
  uint64_t diagnostics = 1;
  for (const std::string& bad : {std::string(), std::string("abc"), std::string(1000, 'x')}) {
    OK(pynn_trt_runtime_check_plan(runtime, bad.data(), bad.size(), &validity, &diagnostics, &error));
    CHECK_EQ(validity, 2);
  }
  if (has_gpu()) return;
  STATUS(DEVICE_UNSUPPORTED, read(plan));
  CHECK(!contains(error.message(), "catchCudaError"));
  CHECK_HAS(error.log(), "deserializeCudaEngine");
  OK(pynn_trt_runtime_check_plan(runtime, plan.data(), plan.size(), &validity, &diagnostics, &error));
  CHECK_EQ(validity, 2);
}

// Every order of destruction, each handle dropped while the others are used or already gone.
TEST(destruction_in_every_order) {
  for (int order = 0; order < 24; ++order) {
    Opened opened;
    open(&opened);
    Model model;
    load(opened, onnx::linear(), &model);
    std::vector<std::function<void()>> drops = {
        [&] { opened.library.reset(), opened.logger.reset(); }, [&] { opened.builder.reset(); },
        [&] { model.network.reset(); }, [&] { model.parser.reset(), model.config.reset(); }};
    int rest = order;
    while (!drops.empty()) {
      size_t pick = static_cast<size_t>(rest) % drops.size();
      rest /= static_cast<int>(drops.size());
      drops[pick]();
      drops.erase(drops.begin() + static_cast<std::ptrdiff_t>(pick));
    }
  }
  Blob plan;
  {
    Opened opened;
    open(&opened);
    Model model;
    load(opened, onnx::linear(), &model);
    opened.library.reset();
    opened.logger.reset();
    model.parser.reset();
    OK(pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));
  }
  CHECK_EQ(std::memcmp(pynn_trt_blob_data(plan), "vtrt", 4), 0);
}

TEST(two_builds_at_once) {
  auto work = [] {
    for (int i = 0; i < 3; ++i) {
      Opened opened;
      open(&opened);
      CHECK(!build(opened, onnx::linear()).empty());
    }
  };
  std::thread other(work);
  work();
  other.join();
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
