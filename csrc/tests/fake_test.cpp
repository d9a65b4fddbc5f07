// Failure paths and every ABI generation, on the fake TensorRT.
#include "fake.h"

#include <thread>

using namespace test;

TEST(libraries_that_are_none) {
  Library library;
  auto options = library_options();
  options.core_path = "/nowhere/libtensorrt.so";
  STATUS(LIBRARY_NOT_FOUND, pynn_trt_library_open(&options, &library, &error));
  CHECK_HAS(error.message(), "/nowhere/libtensorrt.so");
  options.core_path = "libm.so.6";
  STATUS(LIBRARY_INVALID, pynn_trt_library_open(&options, &library, &error));
  CHECK_HAS(error.message(), "getInferLibVersion");
  options.core_path = nullptr;
  STATUS(INVALID_ARGUMENT, pynn_trt_library_open(&options, &library, &error));
  options = library_options();
  options.struct_size = 8;
  STATUS(INVALID_ARGUMENT, pynn_trt_library_open(&options, &library, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_library_open(nullptr, &library, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_library_open(&options, nullptr, &error));
  CHECK(library.raw == nullptr);
}

TEST(parsers_that_are_none) {
  fake("101600");
  for (const char* path : {"/nowhere/parser.so", "libm.so.6"}) {
    Library library;
    auto options = library_options();
    options.parser_path = path;
    OK(pynn_trt_library_open(&options, &library, &error));
    auto info = sized<pynn_trt_library_info>();
    OK(pynn_trt_library_describe(library, &info, &error));
    CHECK_HAS(std::string(info.parser_error), path);
    CHECK_EQ(info.parser_version, 0);
    Logger logger;
    Builder builder;
    Network network;
    Parser parser;
    OK(pynn_trt_logger_create(library, 2, 10, &logger, &error));
    OK(pynn_trt_builder_create(logger, &builder, &error));
    OK(pynn_trt_network_create(builder, &network, &error));
    STATUS(PARSER_UNAVAILABLE, pynn_trt_parser_create(network, &parser, &error));
    CHECK_HAS(error.message(), path);
  }
}

TEST(known_and_unknown_versions) {
  CHECK_EQ(std::string(pynn_trt_library_known_versions()),
           "TensorRT-RTX 1.3-1.7, TensorRT 10.0-10.16, TensorRT 11.0-11.4");
  struct {
    const char* version;
    int flavor, major, minor;
    char generation;
    int known;
  } const all[] = {
      {"10200", 1, 1, 2, 'A', 0},    {"10300", 1, 1, 3, 'A', 1},   {"10400", 1, 1, 4, 'A', 1},
      {"10500", 1, 1, 5, 'B', 1},    {"10799", 1, 1, 7, 'B', 1},   {"10800", 1, 1, 8, 'B', 0},
      {"20000", 1, 2, 0, 'B', 0},    {"8601", 0, 8, 6, 'C', 0},    {"9300", 0, 9, 3, 'C', 0},
      {"100001", 0, 10, 0, 'C', 1},  {"100800", 0, 10, 8, 'C', 1}, {"101600", 0, 10, 16, 'C', 1},
      {"101700", 0, 10, 17, 'C', 0}, {"110000", 0, 11, 0, 'D', 1}, {"110499", 0, 11, 4, 'D', 1},
      {"110500", 0, 11, 5, 'D', 0},  {"120000", 0, 12, 0, 'D', 0},
  };
  for (const auto& one : all) {
    fake(one.version);
    Library library;
    auto options = library_options();
    if (one.known) {
      OK(pynn_trt_library_open(&options, &library, &error));
    } else {
      STATUS(VERSION_UNSUPPORTED, pynn_trt_library_open(&options, &library, &error));
      CHECK_HAS(error.message(), std::to_string(one.major) + "." + std::to_string(one.minor));
      CHECK_HAS(error.message(), "TensorRT 10.0-10.16");
      options = library_options(1);
      OK(pynn_trt_library_open(&options, &library, &error));
    }
    auto info = sized<pynn_trt_library_info>();
    OK(pynn_trt_library_describe(library, &info, &error));
    CHECK_EQ(info.flavor, one.flavor);
    CHECK_EQ(info.major, one.major);
    CHECK_EQ(info.minor, one.minor);
    CHECK_EQ(info.build, 42);
    CHECK_EQ(info.generation, one.generation);
    CHECK_EQ(info.forced, !one.known);
    CHECK_EQ(std::string(info.path), FAKE_TENSORRT);
  }
}

TEST(factories_that_fail) {
  for (const char* version : kVersions) {
    fake(version);
    Opened opened;
    open(&opened);
    Builder builder;
    Runtime runtime;
    Network network;
    Parser parser;
    faults("null_builder");
    STATUS(INTERNAL, pynn_trt_builder_create(opened.logger, &builder, &error));
    CHECK_HAS(error.message(), "no reason");
    faults("no_gpu");
    STATUS(DEVICE_UNSUPPORTED, pynn_trt_builder_create(opened.logger, &builder, &error));
    CHECK_HAS(error.message(), "CUDA initialization failure");
    CHECK_HAS(error.log(), "CUDA initialization failure");
    faults("null_runtime");
    STATUS(INTERNAL, pynn_trt_runtime_create(opened.logger, &runtime, &error));
    faults("wrong_logger");
    STATUS(ABI_MISMATCH, pynn_trt_builder_create(opened.logger, &builder, &error));
    CHECK_HAS(error.message(), "Builder::getLogger");
    STATUS(ABI_MISMATCH, pynn_trt_runtime_create(opened.logger, &runtime, &error));
    faults("");
    OK(pynn_trt_builder_create(opened.logger, &builder, &error));
    faults("wrong_builder");
    STATUS(ABI_MISMATCH, pynn_trt_network_create(builder, &network, &error));
    faults("");
    OK(pynn_trt_network_create(builder, &network, &error));
    faults("null_parser");
    STATUS(INTERNAL, pynn_trt_parser_create(network, &parser, &error));
    Profile profile;
    STATUS(INTERNAL, pynn_trt_profile_create(builder, &profile, &error));
    CHECK(builder.raw != nullptr && runtime.raw == nullptr && parser.raw == nullptr &&
          profile.raw == nullptr);
  }
}

TEST(nothing_is_left_over) {
  for (const char* version : kVersions) {
    fake(version);
    int before = live_objects();
    {
      Building building;
      Parser parser;
      OK(pynn_trt_parser_create(building.network, &parser, &error));
      Blob plan;
      OK(building.build(&plan));
      CHECK_EQ(pynn_trt_blob_size(plan), 4u);
      Running running;
    }
    CHECK_EQ(live_objects(), before);
  }
}

TEST(builds_that_fail) {
  for (const char* version : kVersions) {
    fake(version);
    Building building;
    Blob plan;
    faults("build_thread");
    STATUS(BUILD_FAILED, building.build(&plan));
    CHECK_EQ(error.message(), "cannot build the engine: said on a thread of TensorRT's own");
    CHECK_EQ(error.log(), "said on a thread of TensorRT's own\na warning that errors hide");
    faults("build_memory");
    STATUS(DEVICE_OUT_OF_MEMORY, building.build(&plan));
    CHECK_EQ(error.message(),
             "cannot build the engine: Requested amount of GPU memory could not be allocated: out of memory");
    faults("build_many_warnings");
    STATUS(BUILD_FAILED, building.build(&plan));
    CHECK_EQ(error.message(), "cannot build the engine: the error");
    faults("build_silent");
    STATUS(BUILD_FAILED, building.build(&plan));
    CHECK_EQ(error.log(), "");
    faults("build_warning");
    STATUS(BUILD_FAILED, building.build(&plan));
    CHECK_HAS(error.message(), "only a warning");
    CHECK(plan.raw == nullptr);
    CHECK_EQ(pynn_trt_builder_build(building.builder, building.network, building.config, &plan, nullptr),
             PYNN_TRT_BUILD_FAILED);
  }
}

TEST(flags_by_version) {
  struct {
    const char* version;
    int flag, status;
  } const all[] = {
      {"100001", PYNN_TRT_FLAG_STRICT_NANS, PYNN_TRT_NOT_SUPPORTED},
      {"100800", PYNN_TRT_FLAG_STRICT_NANS, PYNN_TRT_OK},
      {"100800", PYNN_TRT_FLAG_DISTRIBUTIVE_INDEPENDENCE, PYNN_TRT_NOT_SUPPORTED},
      {"101600", PYNN_TRT_FLAG_REQUIRE_USER_ALLOCATION, PYNN_TRT_NOT_SUPPORTED},
      {"10701", PYNN_TRT_FLAG_REQUIRE_USER_ALLOCATION, PYNN_TRT_OK},
  };
  for (const auto& one : all) {
    fake(one.version);
    Building building;
    CHECK_EQ(pynn_trt_config_set_flag(building.config, one.flag, 1, &error), one.status);
    if (one.status != 0) CHECK_HAS(error.message(), "BuilderFlag::");
    int32_t capability = 86;
    int32_t status = pynn_trt_config_set_max_aux_streams(building.config, 1, &error);
    CHECK_EQ(status, PYNN_TRT_OK);
    if (std::atoi(one.version) >= 100000)
      STATUS(NOT_SUPPORTED,
             pynn_trt_config_set_compute_capabilities(building.config, &capability, 1, &error));
    Blob cache;
    STATUS(INVALID_ARGUMENT, pynn_trt_config_get_timing_cache(building.config, &cache, &error));
  }
}

TEST(parsers_by_version) {
  fake("100001");
  Building building;
  Parser parser;
  OK(pynn_trt_parser_create(building.network, &parser, &error));
  int32_t supported;
  int64_t subgraphs;
  STATUS(NOT_SUPPORTED,
         pynn_trt_parser_supports_model(parser, "m", 1, nullptr, &supported, &subgraphs, &error));
  STATUS(NOT_SUPPORTED, pynn_trt_parser_load_model(parser, "m", 1, nullptr, &error));
  CHECK_HAS(error.message(), "TensorRT 10.0 has no Parser::loadModelProto, which came with minor version 13");
  STATUS(NOT_SUPPORTED, pynn_trt_parser_load_initializer(parser, "w", "d", 1, &error));
  STATUS(NOT_SUPPORTED, pynn_trt_parser_parse_loaded(parser, &error));
  STATUS(PARSE_FAILED, pynn_trt_parser_parse(parser, "m", 1, nullptr, &error));
  CHECK_HAS(error.message(), "no reason");
  faults("parse_bogus_error");
  STATUS(PARSE_FAILED, pynn_trt_parser_parse(parser, "m", 1, nullptr, &error));
  CHECK_EQ(pynn_trt_error_node_index(error.raw), -1);
  CHECK_EQ(std::string(pynn_trt_error_node_name(error.raw)), "");
}

TEST(progress_is_bounded) {
  for (const char* version : kVersions) {
    fake(version);
    Building building;
    Progress progress;
    OK(pynn_trt_progress_create(&progress, &error));
    OK(pynn_trt_config_set_progress(building.config, progress, &error));
    Blob plan;
    OK(building.build(&plan));
    std::vector<pynn_trt_progress_event> events(5000, sized<pynn_trt_progress_event>());
    int32_t count = 0, dropped = 0;
    OK(pynn_trt_progress_poll(progress, events.data(), 5000, &count, &dropped, &error));
    CHECK_EQ(count, 4096);
    CHECK_EQ(dropped, 5002 - 4096);
    CHECK_EQ(std::string(events[0].phase), std::string(158, 'a'));
    CHECK_EQ(events[4095].kind, 2);
    CHECK_EQ(events[4094].step, 4999);
    std::thread([&] { pynn_trt_progress_cancel(progress); }).join();
    STATUS(CANCELLED, building.build(&plan));
  }
}

TEST(plans_that_fail) {
  struct {
    const char* text;
    int status;
  } const all[] = {
      {"Serialization assertion magicTag failed", PYNN_TRT_PLAN_INVALID},
      {"something else", PYNN_TRT_PLAN_INVALID},
      {"Target GPU with compute capability 7.0 is not supported", PYNN_TRT_DEVICE_UNSUPPORTED},
      {"The engine cannot run on this GPU", PYNN_TRT_DEVICE_UNSUPPORTED},
      {"no CUDA-capable device is detected", PYNN_TRT_DEVICE_UNSUPPORTED},
      {"cudaError 2: out of memory", PYNN_TRT_DEVICE_OUT_OF_MEMORY},
  };
  for (const char* version : kVersions) {
    fake(version);
    Opened opened;
    open(&opened);
    Runtime runtime;
    Engine engine;
    OK(pynn_trt_runtime_create(opened.logger, &runtime, &error));
    for (const char* noise : {"", "noise"})
      for (const auto& one : all) {
        faults(noise);
        CHECK_EQ(pynn_trt_runtime_deserialize(runtime, one.text, std::strlen(one.text), &engine, &error),
                 one.status);
        CHECK_EQ(error.message(), std::string("cannot read the plan: ") + one.text);
      }
    faults("wrong_engine");
    STATUS(ABI_MISMATCH, pynn_trt_runtime_deserialize(runtime, "plan", 4, &engine, &error));
    CHECK(engine.raw == nullptr);
    int32_t validity = -1;
    uint64_t diagnostics = 0;
    int32_t status = pynn_trt_runtime_check_plan(runtime, "plan", 4, &validity, &diagnostics, &error);
    bool rtx = std::atoi(version) < 100000;
    CHECK_EQ(status, rtx ? PYNN_TRT_OK : PYNN_TRT_NOT_SUPPORTED);
    if (rtx) CHECK(validity == 2 && diagnostics == 32);
  }
}

TEST(engines_by_version) {
  for (const char* version : kVersions) {
    fake(version);
    Running running;
    auto info = sized<pynn_trt_engine_info>();
    OK(pynn_trt_engine_describe(running.engine, &info, &error));
    CHECK(info.io_count == 2 && info.profile_count == 3 && info.refittable == 1 &&
          info.streamable_weights == 79);
    CHECK_EQ(info.device_memory, std::string(version) == "100001" ? 77 : 78);
    CHECK_EQ(std::string(info.name), "");
    auto io = sized<pynn_trt_tensor_info>();
    OK(pynn_trt_engine_describe_io(running.engine, 0, &io, &error));
    CHECK(io.is_input && !io.is_output && io.on_host && io.is_shape_tensor && io.bytes_per_component == 4);
    CHECK(io.rank == 2 && io.dims[0] == -1 && io.dims[1] == 3);
    OK(pynn_trt_engine_describe_io(running.engine, 1, &io, &error));
    CHECK(io.is_output && !io.on_host && std::string(io.name) == "y");
    STATUS(INVALID_ARGUMENT, pynn_trt_engine_describe_io(running.engine, 2, &io, &error));

    int64_t dims[8];
    int32_t rank = 0;
    OK(pynn_trt_engine_profile_shape(running.engine, "x", 0, PYNN_TRT_PROFILE_MAX, dims, &rank, &error));
    CHECK(rank == 1 && dims[0] == 2);
    STATUS(INVALID_ARGUMENT, pynn_trt_engine_profile_shape(running.engine, "y", 0, 0, dims, &rank, &error));
    STATUS(INVALID_ARGUMENT, pynn_trt_engine_profile_shape(running.engine, "z", 0, 0, dims, &rank, &error));
    CHECK_HAS(error.message(), "'x', 'y'");
    STATUS(INVALID_ARGUMENT, pynn_trt_engine_profile_shape(running.engine, "x", 3, 0, dims, &rank, &error));
    Blob text;
    OK(pynn_trt_engine_inspect(running.engine, running.context, 1, &text, &error));
    CHECK_EQ(std::string(static_cast<const char*>(pynn_trt_blob_data(text)), pynn_trt_blob_size(text)), "{}");
    STATUS(INVALID_ARGUMENT, pynn_trt_engine_inspect(running.engine, nullptr, 2, &text, &error));
    STATUS(INTERNAL, pynn_trt_engine_serialize(running.engine, &text, &error));
  }
}

TEST(runtime_caches_are_merged) {
  for (const char* version : kVersions) {
    fake(version);
    bool rtx = std::atoi(version) < 100000;
    Running running;
    Blob merged;
    const void* caches[] = {"old", nullptr, "new"};
    uint64_t sizes[] = {3, 0, 3};
    int32_t status = pynn_trt_engine_merge_runtime_caches(running.engine, caches, sizes, 3, &merged, &error);
    CHECK_EQ(status, rtx ? PYNN_TRT_OK : PYNN_TRT_NOT_SUPPORTED);
    if (!rtx) continue;
    CHECK_EQ(std::string(static_cast<const char*>(pynn_trt_blob_data(merged)), pynn_trt_blob_size(merged)),
             "cache:oldnew");
    sizes[1] = 1;
    STATUS(INVALID_ARGUMENT,
           pynn_trt_engine_merge_runtime_caches(running.engine, caches, sizes, 3, &merged, &error));
    STATUS(INVALID_ARGUMENT,
           pynn_trt_engine_merge_runtime_caches(running.engine, nullptr, sizes, 1, &merged, &error));
    OK(pynn_trt_engine_merge_runtime_caches(running.engine, nullptr, nullptr, 0, &merged, &error));
    CHECK_EQ(pynn_trt_blob_size(merged), 6u);
  }
}

TEST(contexts) {
  for (const char* version : kVersions) {
    fake(version);
    bool rtx = std::atoi(version) < 100000;
    auto options = sized<pynn_trt_context_options>();
    options.allocation_strategy = options.cuda_graph_strategy = options.kernel_specialization = -1;
    Running running(&options);
    int64_t dims[8] = {2, 3}, bytes = 0;
    int32_t rank = 0;
    STATUS(INVALID_ARGUMENT, pynn_trt_context_infer_shapes(running.context, &error));
    CHECK_HAS(error.message(), "'x'");
    OK(pynn_trt_context_tensor_shape(running.context, "y", dims, &rank, &error));
    CHECK(rank == 2 && dims[0] == -1);
    dims[0] = 2;
    STATUS(INVALID_ARGUMENT, pynn_trt_context_set_input_shape(running.context, "x", dims, 1, &error));
    STATUS(INVALID_ARGUMENT, pynn_trt_context_set_input_shape(running.context, "x", dims, 9, &error));
    STATUS(INVALID_ARGUMENT, pynn_trt_context_set_input_shape(running.context, "y", dims, 2, &error));
    STATUS(INVALID_ARGUMENT, pynn_trt_context_set_input_shape(running.context, "x", nullptr, 2, &error));
    OK(pynn_trt_context_set_input_shape(running.context, "x", dims, 2, &error));
    OK(pynn_trt_context_infer_shapes(running.context, &error));
    faults("infer unknown_shape no_size");
    STATUS(INVALID_ARGUMENT, pynn_trt_context_infer_shapes(running.context, &error));
    STATUS(INVALID_ARGUMENT, pynn_trt_context_tensor_shape(running.context, "y", dims, &rank, &error));
    STATUS(INVALID_ARGUMENT, pynn_trt_context_max_output_size(running.context, "y", &bytes, &error));
    faults("");
    OK(pynn_trt_context_max_output_size(running.context, "y", &bytes, &error));
    CHECK_EQ(bytes, 24);
    STATUS(INVALID_ARGUMENT, pynn_trt_context_max_output_size(running.context, "x", &bytes, &error));
    OK(pynn_trt_context_set_profile(running.context, 1, 0, &error));
    STATUS(EXECUTION_FAILED, pynn_trt_context_set_profile(running.context, 2, 0, &error));
    STATUS(INVALID_ARGUMENT, pynn_trt_context_set_profile(running.context, 3, 0, &error));
    STATUS(INVALID_ARGUMENT, pynn_trt_context_set_address(running.context, "x", 0, &error));
    OK(pynn_trt_context_set_address(running.context, "x", reinterpret_cast<uint64_t>(running.device_x),
                                    &error));
    OK(pynn_trt_context_set_address(running.context, "y", reinterpret_cast<uint64_t>(running.device_y),
                                    &error));
    running.device_x[0] = 21;
    OK(pynn_trt_context_enqueue(running.context, 0, &error));
    CHECK_EQ(running.device_y[0], 42.0f);
    int32_t capturable = -1;
    CHECK_EQ(pynn_trt_context_is_stream_capturable(running.context, 0, &capturable, &error),
             rtx ? PYNN_TRT_OK : PYNN_TRT_NOT_SUPPORTED);

    Context other;
    Blob cache;
    CHECK_EQ(pynn_trt_context_runtime_cache(running.context, &cache, &error),
             rtx ? PYNN_TRT_INVALID_ARGUMENT : PYNN_TRT_NOT_SUPPORTED);
    options.runtime_cache = "old";
    options.runtime_cache_size = 3;
    options.cuda_graph_strategy = 1;
    options.kernel_specialization = 1;
    options.allocation_strategy = 1;
    int32_t status = pynn_trt_context_create(running.engine, &options, &other, &error);
    CHECK_EQ(status, rtx ? PYNN_TRT_OK : PYNN_TRT_NOT_SUPPORTED);
    if (rtx) {
      OK(pynn_trt_context_runtime_cache(other, &cache, &error));
      CHECK_EQ(std::string(static_cast<const char*>(pynn_trt_blob_data(cache)), pynn_trt_blob_size(cache)),
               "cache:old");
      faults("graph_strategy");
      STATUS(NOT_SUPPORTED, pynn_trt_context_create(running.engine, &options, &other, &error));
    }
    options.allocation_strategy = 3;
    STATUS(INVALID_ARGUMENT, pynn_trt_context_create(running.engine, &options, &other, &error));
    options = sized<pynn_trt_context_options>();
    options.allocation_strategy = 2;
    options.cuda_graph_strategy = options.kernel_specialization = -1;
    OK(pynn_trt_context_create(running.engine, &options, &other, &error));
    OK(pynn_trt_context_device_memory_size(other, &bytes, &error));
    CHECK_EQ(bytes, 512);
    alignas(256) static char memory[512];
    status = pynn_trt_context_set_device_memory(other, reinterpret_cast<uint64_t>(memory), 512, &error);
    bool has_v2 = std::string(version) != "100001";
    CHECK_EQ(status, has_v2 ? PYNN_TRT_OK : PYNN_TRT_NOT_SUPPORTED);
    if (has_v2) STATUS(INVALID_ARGUMENT, pynn_trt_context_set_device_memory(other, 0, 0, &error));
  }
}

TEST(handles_may_be_null) {
#define NOUN(noun, Class) pynn_trt_##noun##_destroy(nullptr);
  PYNN_NOUNS(NOUN)
#undef NOUN
  pynn_trt_error_destroy(nullptr);
  pynn_trt_progress_cancel(nullptr);
  CHECK(pynn_trt_blob_data(nullptr) == nullptr && pynn_trt_blob_size(nullptr) == 0);
  CHECK_EQ(std::string(pynn_trt_error_message(nullptr)), "");
  CHECK_EQ(pynn_trt_abi_version(), 1u);
  CHECK_EQ(std::string(pynn_trt_status_name(PYNN_TRT_INTERNAL)), "INTERNAL");
  CHECK_EQ(std::string(pynn_trt_status_name(-1)), "UNKNOWN");
  CHECK_EQ(std::string(pynn_trt_status_name(18)), "UNKNOWN");
  Builder builder;
  STATUS(INVALID_ARGUMENT, pynn_trt_builder_create(nullptr, &builder, &error));
  CHECK_EQ(error.message(), "logger is NULL");
  int32_t number = 0;
  STATUS(INVALID_ARGUMENT, pynn_trt_network_count(nullptr, &number, &number, &number, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_runner_run(nullptr, nullptr, nullptr, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_runtime_deserialize(nullptr, "", 0, nullptr, &error));
}

TEST(loggers_are_bounded) {
  fake("10701");
  Building building;
  Logger small;
  OK(pynn_trt_logger_create(building.opened.library, 1, 2, &small, &error));
  Blob plan;
  faults("build_thread");
  for (int i = 0; i < 3; ++i) STATUS(BUILD_FAILED, building.build(&plan));
  auto line = sized<pynn_trt_log_line>();
  int32_t available = 0, lines = 0;
  for (;; ++lines) {
    OK(pynn_trt_logger_poll(small, &line, &available, &error));
    if (!available) break;
    CHECK_EQ(line.severity, 1);
  }
  CHECK_EQ(lines, 2);
  STATUS(INVALID_ARGUMENT, pynn_trt_logger_create(building.opened.library, 5, 2, &small, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_logger_create(building.opened.library, 1, -1, &small, &error));
  STATUS(INVALID_ARGUMENT, pynn_trt_logger_poll(building.opened.logger, nullptr, &available, &error));
}

int main(int, char** arguments) { return run_all(arguments[1] ? arguments[1] : ""); }
