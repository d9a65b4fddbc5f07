// What the tests on the fake TensorRT and the fake CUDA driver share.
#pragma once

#include <dlfcn.h>

#include "harness.h"

namespace test {

inline const char* const kVersions[] = {"10300",  "10400",  "10500",  "10701", "100001",
                                        "100800", "101600", "110000", "110400"};
inline thread_local Error error;

inline void fake(const char* version, const char* faults = "") {
  setenv("PYNN_FAKE_VERSION", version, 1);
  setenv("PYNN_FAKE_FAULTS", faults, 1);
}
inline void faults(const char* names) { setenv("PYNN_FAKE_FAULTS", names, 1); }

template <class Function>
Function* control(const char* library, const char* name) {
  void* handle = dlopen(library, RTLD_NOW);
  REQUIRE(handle != nullptr);
  return reinterpret_cast<Function*>(dlsym(handle, name));
}
inline int live_objects() { return control<int()>(FAKE_TENSORRT, "fake_tensorrt_live")(); }
inline int live_cuda() { return control<int()>("libcuda.so.1", "fake_cuda_live")(); }
inline std::string cuda_calls() { return control<const char*()>("libcuda.so.1", "fake_cuda_calls")(); }
inline void cuda_fail(const char* name, int code, int times = 1) {
  control<void(const char*, int, int)>("libcuda.so.1", "fake_cuda_fail")(name, code, times);
}

inline pynn_trt_library_options library_options(int force = 0) {
  auto options = sized<pynn_trt_library_options>();
  options.core_path = FAKE_TENSORRT;
  options.parser_path = FAKE_TENSORRT;
  options.force_version = force;
  return options;
}

struct Opened {
  Library library;
  Logger logger;
};

inline void open(Opened* opened) {
  auto options = library_options();
  OK(pynn_trt_library_open(&options, &opened->library, &error));
  OK(pynn_trt_logger_create(opened->library, 4, 100, &opened->logger, &error));
}

struct Building {
  Opened opened;
  Builder builder;
  Network network;
  Config config;
  Building() {
    open(&opened);
    OK(pynn_trt_builder_create(opened.logger, &builder, &error));
    OK(pynn_trt_network_create(builder, &network, &error));
    OK(pynn_trt_config_create(builder, &config, &error));
  }
  int32_t build(pynn_trt_blob** plan) {
    return pynn_trt_builder_build(builder, network, config, plan, &error);
  }
};

struct Running {
  Opened opened;
  Runtime runtime;
  Engine engine;
  Context context;
  alignas(64) float staging_x[6] = {}, staging_y[6] = {}, device_x[6] = {}, device_y[6] = {};

  explicit Running(const pynn_trt_context_options* options = nullptr) {
    open(&opened);
    OK(pynn_trt_runtime_create(opened.logger, &runtime, &error));
    OK(pynn_trt_runtime_deserialize(runtime, "plan", 4, &engine, &error));
    OK(pynn_trt_context_create(engine, options, &context, &error));
  }
  void set_shape() {
    int64_t dims[] = {2, 3};
    OK(pynn_trt_context_set_input_shape(context, "x", dims, 2, &error));
  }
  std::vector<pynn_trt_binding> bindings() {
    auto x = sized<pynn_trt_binding>();
    x.name = "x";
    x.staging = staging_x;
    x.device = reinterpret_cast<uint64_t>(device_x);
    x.bytes = sizeof(staging_x);
    auto y = x;
    y.name = "y";
    y.is_output = 1;
    y.staging = staging_y;
    y.device = reinterpret_cast<uint64_t>(device_y);
    return {y, x};
  }
  int32_t make(pynn_trt_runner** runner, const std::vector<pynn_trt_binding>& bindings, int32_t graph = 0,
               int32_t wait = 0) {
    auto options = sized<pynn_trt_runner_options>();
    options.use_cuda_graph = graph;
    options.wait = wait;
    options.stream = 0x1234;
    options.cuda_context = 0x5678;
    return pynn_trt_runner_create(context, &options, bindings.data(), static_cast<int32_t>(bindings.size()),
                                  runner, &error);
  }
  float result[6] = {};
  int32_t run(pynn_trt_runner* runner, float first) {
    float values[] = {first, 2, 3, 4, 5, 6};
    const void* inputs[] = {values};
    void* outputs[] = {result};
    int32_t status = pynn_trt_runner_run(runner, inputs, outputs, &error);
    if (status == PYNN_TRT_OK) CHECK(result[0] == 2 * first && result[5] == 12);
    return status;
  }
};

inline pynn_trt_runner_info describe(pynn_trt_runner* runner) {
  auto info = sized<pynn_trt_runner_info>();
  OK(pynn_trt_runner_describe(runner, &info, &error));
  return info;
}

}  // namespace test
