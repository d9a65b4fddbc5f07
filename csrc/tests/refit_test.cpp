// New weights for an engine, and where they lie, on the fake TensorRT.
#include "fake.h"

using namespace test;

namespace {

struct Refitting : Running {
  Refitter refitter;
  Refitting() { OK(pynn_trt_refitter_create(engine, &refitter, &error)); }
  std::vector<std::string> list(bool missing) {
    const char* const* names = nullptr;
    int32_t count = -1;
    OK(pynn_trt_refitter_list(refitter, missing, &names, &count, &error));
    return {names, names + count};
  }
};

const float kWeights[] = {3, 4};

}  // namespace

TEST(weights_by_name) {
  for (const char* version : kVersions) {
    fake(version);
    Refitting r;
    CHECK(r.list(false) == std::vector<std::string>{"w"} && r.list(true) == r.list(false));
    auto info = sized<pynn_trt_weight_info>();
    OK(pynn_trt_refitter_describe(r.refitter, "w", &info, &error));
    CHECK(info.data_type == PYNN_TRT_FLOAT32 && info.count == 2);
    STATUS(INVALID_ARGUMENT, pynn_trt_refitter_describe(r.refitter, "v", &info, &error));
    CHECK_HAS(error.message(), "no weights 'v'");
    STATUS(INVALID_ARGUMENT, pynn_trt_refitter_describe(r.refitter, nullptr, &info, &error));

    STATUS(BUILD_FAILED, pynn_trt_refitter_refit(r.refitter, &error));
    CHECK_EQ(error.message(), "cannot refit the engine: Cannot refit engine due to missing weights");
    STATUS(INVALID_ARGUMENT, pynn_trt_refitter_set(r.refitter, "v", 0, kWeights, 2, &error));
    CHECK_EQ(error.message(), "cannot replace the weights 'v': no such weights");
    for (int64_t count : {int64_t{3}, int64_t{0}, int64_t{-1}})
      STATUS(INVALID_ARGUMENT, pynn_trt_refitter_set(r.refitter, "w", 0, kWeights, count, &error));
    STATUS(INVALID_ARGUMENT, pynn_trt_refitter_set(r.refitter, "w", 1, kWeights, 2, &error));
    STATUS(INVALID_ARGUMENT, pynn_trt_refitter_set(r.refitter, "w", 0, nullptr, 2, &error));
    OK(pynn_trt_refitter_set(r.refitter, "w", 0, kWeights, 2, &error));
    CHECK(r.list(true).empty() && r.list(false).size() == 1);
    OK(pynn_trt_refitter_refit(r.refitter, &error));
    r.engine.reset();  // the refitter keeps it
    OK(pynn_trt_refitter_refit(r.refitter, &error));
  }
}

TEST(weights_of_a_model) {
  for (const char* version : kVersions) {
    fake(version);
    Refitting r;
    OK(pynn_trt_refitter_set_from_model(r.refitter, "onnx", 4, nullptr, &error));
    STATUS(PARSE_FAILED, pynn_trt_refitter_set_from_model(r.refitter, "text", 4, nullptr, &error));
    CHECK_HAS(error.message(), "cannot take the weights of the model: TensorRT gave no reason");
    STATUS(INVALID_ARGUMENT, pynn_trt_refitter_set_from_model(r.refitter, "", 0, nullptr, &error));
    STATUS(INVALID_ARGUMENT, pynn_trt_refitter_set_from_model(r.refitter, nullptr, 4, nullptr, &error));
    faults("refit_bogus_error");
    STATUS(PARSE_FAILED, pynn_trt_refitter_set_from_model(r.refitter, "text", 4, nullptr, &error));
    CHECK_HAS(error.message(), "error code 0");
    faults("");

    STATUS(INVALID_ARGUMENT, pynn_trt_refitter_set_from_loaded(r.refitter, &error));
    CHECK_EQ(error.message(), "no model was loaded");
    STATUS(INVALID_ARGUMENT, pynn_trt_refitter_load_initializer(r.refitter, "w", kWeights, 8, &error));
    bool can = std::string(version) != "100001" && std::string(version) != "100800";
    if (!can) {
      STATUS(NOT_SUPPORTED, pynn_trt_refitter_load_model(r.refitter, "onnx", 4, nullptr, &error));
      CHECK_HAS(error.message(), "ParserRefitter::loadModelProto, which came with minor version 13");
      continue;
    }
    STATUS(PARSE_FAILED, pynn_trt_refitter_load_model(r.refitter, "text", 4, nullptr, &error));
    OK(pynn_trt_refitter_load_model(r.refitter, "onnx", 4, nullptr, &error));
    OK(pynn_trt_refitter_load_initializer(r.refitter, "w", kWeights, 8, &error));
    STATUS(PARSE_FAILED, pynn_trt_refitter_load_initializer(r.refitter, "v", kWeights, 8, &error));
    CHECK_HAS(error.message(), "cannot load the initializer 'v'");
    STATUS(INVALID_ARGUMENT, pynn_trt_refitter_load_initializer(r.refitter, "w", nullptr, 8, &error));
    OK(pynn_trt_refitter_set_from_loaded(r.refitter, &error));
    faults("refit_loaded");
    STATUS(PARSE_FAILED, pynn_trt_refitter_set_from_loaded(r.refitter, &error));
  }
}

TEST(refitters_that_fail) {
  for (const char* version : kVersions) {
    fake(version);
    Running running;
    Refitter refitter;
    faults("not_refittable");
    STATUS(INVALID_ARGUMENT, pynn_trt_refitter_create(running.engine, &refitter, &error));
    CHECK_HAS(error.message(), "without the flag REFIT");
    faults("null_refitter");
    STATUS(INTERNAL, pynn_trt_refitter_create(running.engine, &refitter, &error));
    faults("wrong_refitter");
    STATUS(ABI_MISMATCH, pynn_trt_refitter_create(running.engine, &refitter, &error));
    faults("null_parser");
    OK(pynn_trt_refitter_create(running.engine, &refitter, &error));
    STATUS(INTERNAL, pynn_trt_refitter_set_from_model(refitter, "onnx", 4, nullptr, &error));
    const char* const* names = nullptr;
    int32_t count = -1;
    faults("bad_names");
    OK(pynn_trt_refitter_list(refitter, 0, &names, &count, &error));
    CHECK_EQ(count, 0);
    faults("null_name");
    OK(pynn_trt_refitter_list(refitter, 0, &names, &count, &error));
    CHECK(count == 1 && std::string(names[0]).empty());
    STATUS(INVALID_ARGUMENT, pynn_trt_refitter_list(refitter, 0, nullptr, &count, &error));
    STATUS(INVALID_ARGUMENT, pynn_trt_refitter_list(nullptr, 0, &names, &count, &error));
    STATUS(INVALID_ARGUMENT, pynn_trt_refitter_create(nullptr, &refitter, &error));
  }
}

TEST(refitters_without_a_parser) {
  fake("10701");
  Opened opened;
  auto options = library_options();
  options.parser_path = nullptr;
  OK(pynn_trt_library_open(&options, &opened.library, &error));
  OK(pynn_trt_logger_create(opened.library, 4, 100, &opened.logger, &error));
  Runtime runtime;
  Engine engine;
  Refitter refitter;
  OK(pynn_trt_runtime_create(opened.logger, &runtime, &error));
  OK(pynn_trt_runtime_deserialize(runtime, "plan", 4, &engine, &error));
  OK(pynn_trt_refitter_create(engine, &refitter, &error));
  STATUS(PARSER_UNAVAILABLE, pynn_trt_refitter_set_from_model(refitter, "onnx", 4, nullptr, &error));
  OK(pynn_trt_refitter_set(refitter, "w", 0, kWeights, 2, &error));
}

TEST(weight_streaming_and_memory) {
  for (const char* version : kVersions) {
    fake(version);
    Running running;
    auto info = sized<pynn_trt_weight_streaming_info>();
    int64_t bytes = -1;
    if (std::string(version) == "100001") {
      STATUS(NOT_SUPPORTED, pynn_trt_engine_set_weight_budget(running.engine, 7, &error));
      STATUS(NOT_SUPPORTED, pynn_trt_engine_describe_weight_streaming(running.engine, &info, &error));
      STATUS(NOT_SUPPORTED, pynn_trt_engine_device_memory(running.engine, 0, &bytes, &error));
      continue;
    }
    OK(pynn_trt_engine_set_weight_budget(running.engine, 7, &error));
    OK(pynn_trt_engine_describe_weight_streaming(running.engine, &info, &error));
    CHECK(info.streamable == 79 && info.budget == 7 && info.automatic == 60 && info.scratch == 8);
    STATUS(INVALID_ARGUMENT, pynn_trt_engine_set_weight_budget(running.engine, 80, &error));
    CHECK_EQ(error.message(), "cannot give the engine's weights 80 bytes: there is a context");
    STATUS(INVALID_ARGUMENT, pynn_trt_engine_set_weight_budget(running.engine, -1, &error));
    OK(pynn_trt_engine_device_memory(running.engine, 2, &bytes, &error));
    CHECK_EQ(bytes, 102);
    STATUS(INVALID_ARGUMENT, pynn_trt_engine_device_memory(running.engine, 3, &bytes, &error));
  }
}

int main(int argc, char** argv) { return run_all(argc > 1 ? argv[1] : ""); }
