// The second half of real_test: building, plans, lifetimes.
#include <thread>

#include "real.h"

using namespace test;

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

TEST(weights_outside_the_engine) {
  Opened opened;
  open(&opened);
  Model model;
  load(opened, onnx::linear(), &model);
  Blob plan;
  OK(pynn_trt_config_set_flag(model.config, PYNN_TRT_FLAG_WEIGHT_STREAMING, 1, &error));
  OK(pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));
  OK(pynn_trt_config_set_flag(model.config, PYNN_TRT_FLAG_REQUIRE_USER_ALLOCATION, 1, &error));
  STATUS(BUILD_FAILED, pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));
  CHECK_HAS(error.message(), "is not compatible with");
  OK(pynn_trt_config_set_flag(model.config, PYNN_TRT_FLAG_WEIGHT_STREAMING, 0, &error));
  OK(pynn_trt_config_set_flag(model.config, PYNN_TRT_FLAG_STRIP_PLAN, 1, &error));
  OK(pynn_trt_config_set_flag(model.config, PYNN_TRT_FLAG_REFIT, 1, &error));
  if (has_gpu()) return;
  // Replaceable weights need kernels compiled during the build, even for a GPU that is named.
  STATUS(BUILD_FAILED, pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));
  CHECK_HAS(error.message(), "CHECK(status == CUDA_SUCCESS)");
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
