// What the runner asks of the CUDA driver and of TensorRT, in which order, on the fakes of both.
#include <cstring>
#include <memory>

#include "fake.h"

using namespace test;

TEST(runner_plain_and_as_graph) {
  for (const char* version : kVersions) {
    fake(version);
    Running running;
    running.set_shape();
    for (int mode : {0, 1, 2}) {
      int before = live_cuda();
      std::string wait = mode == 1 ? " event_record event_synchronize" : " query";
      std::string rest = " attribute d2h" + wait + " pop";
      Runner runner;
      OK(running.make(&runner, running.bindings(), 0, mode));
      cuda_calls();
      OK(running.run(runner, 1));
      OK(running.run(runner, 7));
      CHECK_EQ(cuda_calls(), "push attribute h2d" + rest + " push attribute h2d" + rest);
      CHECK_EQ(std::string(describe(runner).cuda_graph_reason), "not asked for");
      OK(running.make(&runner, running.bindings(), 1, mode));
      cuda_calls();
      OK(running.run(runner, 1));
      CHECK_EQ(describe(runner).cuda_graph, 0);
      CHECK_EQ(cuda_calls(), "push attribute h2d" + rest);
      OK(running.run(runner, 2));
      CHECK_EQ(cuda_calls(), "push attribute h2d begin end instantiate graph_destroy launch" + rest);
      OK(running.run(runner, 3));
      CHECK_EQ(cuda_calls(), "push attribute h2d launch" + rest);
      CHECK(describe(runner).cuda_graph == 1 && describe(runner).runs == 3);
      CHECK_EQ(std::string(describe(runner).cuda_graph_reason), "");
      runner.reset();
      CHECK_EQ(live_cuda(), before);
    }
  }
}

TEST(runner_waits_and_mapped_memory) {
  fake("10701");
  Running running;
  running.set_shape();
  auto bindings = running.bindings();
  for (auto& binding : bindings) {
    binding.device = reinterpret_cast<uint64_t>(binding.staging);
    binding.mapped = 1;
  }
  Runner runner;
  OK(running.make(&runner, bindings));
  cuda_calls();
  control<void(int)>("libcuda.so.1", "fake_cuda_pending")(3);
  OK(running.run(runner, 5));
  CHECK_EQ(cuda_calls(), "push query query query query pop");
  running.staging_x[0] = 8;
  OK(pynn_trt_runner_run(runner, nullptr, nullptr, &error));
  CHECK_EQ(running.staging_y[0], 16.0f);
  // The handles it came from may be gone.
  running.context.reset();
  running.engine.reset();
  running.runtime.reset();
  running.opened.logger.reset();
  running.opened.library.reset();
  OK(running.run(runner, 6));
}

TEST(runner_sleeps_after_spinning) {
  fake("10701");
  Running running;
  running.set_shape();
  Runner runner;
  OK(running.make(&runner, running.bindings(), 0, 2));
  cuda_calls();
  control<void(int)>("libcuda.so.1", "fake_cuda_pending")(1 << 30);
  OK(running.run(runner, 5));
  control<void(int)>("libcuda.so.1", "fake_cuda_pending")(0);
  CHECK_HAS(cuda_calls(), "query event_record event_synchronize pop");
}

TEST(runner_reads_and_writes_pinned_arrays_in_place) {
  fake("10701");
  Running running;
  running.set_shape();
  Runner runner;
  OK(running.make(&runner, running.bindings()));
  float both[12] = {1, 2, 3, 4, 5, 6};
  auto pin = control<void(void*, uint64_t)>("libcuda.so.1", "fake_cuda_pin");
  const void* inputs[] = {both};
  void* outputs[] = {both + 6};
  pin(both, sizeof(both));
  running.staging_x[0] = running.staging_y[0] = -1;
  cuda_calls();
  OK(pynn_trt_runner_run(runner, inputs, outputs, &error));
  CHECK_EQ(cuda_calls(), "push attribute attribute h2d attribute attribute d2h query pop");
  CHECK(both[6] == 2 && both[11] == 12 && running.staging_x[0] == -1 && running.staging_y[0] == -1);
  // Only a part of it is pinned.
  pin(both, 20);
  OK(pynn_trt_runner_run(runner, inputs, outputs, &error));
  CHECK_EQ(running.staging_x[0], 1.0f);
  pin(nullptr, 0);
}

TEST(runner_stages_large_inputs_in_pieces) {
  fake("10701");
  Running running;
  running.set_shape();
  constexpr size_t kCount = (5u << 20) / 4 + 3;
  std::vector<float> array(kCount), device(kCount), room(kCount + 16);
  for (size_t i = 0; i < kCount; ++i) array[i] = static_cast<float>(i);
  auto bindings = running.bindings();
  bindings[1].bytes = kCount * 4;
  bindings[1].device = reinterpret_cast<uint64_t>(device.data());
  void* staging = room.data();
  size_t space = room.size() * 4;
  bindings[1].staging = std::align(64, kCount * 4, staging, space);
  Runner runner;
  OK(running.make(&runner, bindings));
  const void* inputs[] = {array.data() + 1};
  bindings[1].bytes = (kCount - 1) * 4;
  OK(running.make(&runner, bindings));
  cuda_calls();
  OK(pynn_trt_runner_run(runner, inputs, nullptr, &error));
  CHECK_EQ(cuda_calls(), "push attribute h2d h2d h2d h2d h2d h2d d2h query pop");
  CHECK(std::memcmp(device.data(), array.data() + 1, (kCount - 1) * 4) == 0);
}

TEST(runner_launches_on_memory_of_the_caller) {
  fake("10701");
  Running running;
  running.set_shape();
  auto bindings = running.bindings();
  for (auto& binding : bindings) {
    binding.staging = nullptr;
    binding.mapped = 1;
  }
  Runner runner;
  OK(running.make(&runner, bindings, 1));
  running.device_x[0] = 4;
  cuda_calls();
  for (int i = 0; i < 3; ++i) OK(pynn_trt_runner_launch(runner, &error));
  CHECK_EQ(running.device_y[0], 8.0f);
  CHECK_EQ(cuda_calls(), "push pop push begin end instantiate graph_destroy launch pop push launch pop");
  cuda_fail("launch", 719);
  STATUS(CUDA_FAILED, pynn_trt_runner_launch(runner, &error));
}

TEST(runner_falls_back) {
  for (const char* step : {"begin", "end", "instantiate"}) {
    fake("110400");
    Running running;
    running.set_shape();
    int before = live_cuda();
    Runner runner;
    OK(running.make(&runner, running.bindings(), 1));
    OK(running.run(runner, 1));
    cuda_fail(step, 900);
    cuda_calls();
    OK(running.run(runner, 2));
    CHECK_HAS(std::string(describe(runner).cuda_graph_reason), "CUDA_ERROR_FAKE (900)");
    cuda_calls();
    OK(running.run(runner, 3));
    CHECK_EQ(cuda_calls(), "push attribute h2d attribute d2h query pop");
    runner.reset();
    CHECK_EQ(live_cuda(), before);
  }
  fake("10701");
  Running running;
  running.set_shape();
  Runner runner;
  OK(running.make(&runner, running.bindings(), 1));
  faults("not_capturable");
  // Another thread may still read what describe() gave it while the reason changes.
  const char* first = describe(runner).cuda_graph_reason;
  for (int i = 0; i < 3; ++i) OK(running.run(runner, 1));
  CHECK_HAS(std::string(first), "not captured yet");
  CHECK_HAS(std::string(describe(runner).cuda_graph_reason), "cannot be captured now");
  faults("");
  for (int i = 0; i < 2; ++i) OK(running.run(runner, 1));
  CHECK_EQ(describe(runner).cuda_graph, 1);
}

TEST(runner_failures) {
  fake("10701");
  Running running;
  running.set_shape();
  Runner runner;
  OK(running.make(&runner, running.bindings()));
  for (const char* step : {"push", "h2d", "d2h", "query"}) {
    cuda_fail(step, 700);
    STATUS(CUDA_FAILED, running.run(runner, 1));
    CHECK_HAS(error.message(), "CUDA_ERROR_FAKE (700), made to fail");
    cuda_fail(step, 2);
    STATUS(DEVICE_OUT_OF_MEMORY, running.run(runner, 1));
    cuda_fail(step, 999);
    STATUS(CUDA_FAILED, running.run(runner, 1));
    CHECK_HAS(error.message(), "unknown CUDA error (999)");
    OK(running.run(runner, 1));
  }
  faults("enqueue");
  cuda_calls();
  STATUS(EXECUTION_FAILED, running.run(runner, 1));
  CHECK_EQ(cuda_calls(), "push attribute h2d synchronize pop");
  CHECK_EQ(error.message(), "cannot run the engine: the kernel did not start");
  faults("enqueue_memory");
  STATUS(DEVICE_OUT_OF_MEMORY, running.run(runner, 1));
  faults("");
  OK(running.run(runner, 1));
  CHECK_EQ(describe(runner).runs, 5u);

  OK(running.make(&runner, running.bindings(), 1));
  OK(running.run(runner, 1));
  OK(running.run(runner, 1));
  cuda_fail("launch", 719);
  STATUS(CUDA_FAILED, running.run(runner, 1));
  OK(running.run(runner, 1));
  running.set_shape();
  STATUS(INVALID_ARGUMENT, running.run(runner, 1));
  OK(running.make(&runner, running.bindings()));
  OK(pynn_trt_context_set_device_memory(running.context, 4096, 512, &error));
  STATUS(INVALID_ARGUMENT, running.run(runner, 1));
  cuda_fail("event_create", 2);
  STATUS(DEVICE_OUT_OF_MEMORY, running.make(&runner, running.bindings(), 0, 1));
  CHECK(runner.raw == nullptr);
}

TEST(runners_share_a_context) {
  fake("10701");
  Running running;
  running.set_shape();
  Runner first, second;
  OK(running.make(&first, running.bindings()));
  float other_x[6], other_y[6];
  auto bindings = running.bindings();
  bindings[0].device = reinterpret_cast<uint64_t>(other_y);
  bindings[1].device = reinterpret_cast<uint64_t>(other_x);
  OK(running.make(&second, bindings));
  OK(running.run(first, 3));
  OK(running.run(second, 4));
  OK(running.run(first, 5));
  OK(pynn_trt_context_set_address(running.context, "x", 4096, &error));
  OK(running.run(first, 6));
}

TEST(runner_arguments) {
  fake("10701");
  Running running;
  Runner runner;
  STATUS(INVALID_ARGUMENT, running.make(&runner, running.bindings()));
  CHECK_HAS(error.message(), "'x' is not set");
  running.set_shape();
  auto refused = [&](const char* part, std::function<void(std::vector<pynn_trt_binding>&)> change) {
    auto bindings = running.bindings();
    change(bindings);
    STATUS(INVALID_ARGUMENT, running.make(&runner, bindings));
    CHECK_HAS(error.message(), part);
  };
  using Bindings = std::vector<pynn_trt_binding>;
  refused("no binding for 'y'", [](Bindings& all) { all.erase(all.begin()); });
  refused("no binding for 'x'", [](Bindings& all) { all.pop_back(); });
  refused("is empty", [](Bindings& all) { all.clear(); });
  refused("bound twice", [](Bindings& all) { all.push_back(all[0]); });
  refused("no tensor 'z'", [](Bindings& all) { all[0].name = "z"; });
  refused("says otherwise", [](Bindings& all) { all[0].is_output = 0; });
  refused("needs 24 bytes", [](Bindings& all) { all[0].bytes = 23; });
  refused("NULL buffer", [](Bindings& all) { all[1].staging = nullptr; });
  refused("aligned to 64", [](Bindings& all) { all[1].staging = static_cast<float*>(all[1].staging) + 1; });
  refused("name is NULL", [](Bindings& all) { all[1].name = nullptr; });
  refused("struct_size", [](Bindings& all) { all[0].struct_size = 4; });
  STATUS(INVALID_ARGUMENT, pynn_trt_runner_create(running.context, nullptr, nullptr, 0, &runner, &error));
}

int main(int, char** arguments) { return run_all(arguments[1] ? arguments[1] : ""); }
