// What the runner asks of the CUDA driver and of TensorRT, in which order, on the fakes of both.
#include "fake.h"

using namespace test;

TEST(runner_plain_and_as_graph) {
  for (const char* version : kVersions) {
    fake(version);
    Running running;
    running.set_shape();
    for (int block : {0, 1}) {
      int before = live_cuda();
      std::string wait = block ? " event_record event_synchronize" : " query";
      Runner runner;
      OK(running.make(&runner, running.bindings(), 0, block));
      cuda_calls();
      OK(running.run(runner, 1));
      OK(running.run(runner, 7));
      CHECK_EQ(cuda_calls(), "push h2d d2h" + wait + " pop push h2d d2h" + wait + " pop");
      CHECK_EQ(std::string(describe(runner).cuda_graph_reason), "not asked for");
      OK(running.make(&runner, running.bindings(), 1, block));
      cuda_calls();
      OK(running.run(runner, 1));
      CHECK_EQ(describe(runner).cuda_graph, 0);
      CHECK_EQ(cuda_calls(), "push h2d d2h" + wait + " pop");
      OK(running.run(runner, 2));
      CHECK_EQ(cuda_calls(), "push begin h2d d2h end instantiate graph_destroy launch" + wait + " pop");
      OK(running.run(runner, 3));
      CHECK_EQ(cuda_calls(), "push launch" + wait + " pop");
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

TEST(runner_falls_back) {
  for (const char* step : {"begin", "end", "instantiate", "h2d"}) {
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
    if (std::string(step) == "h2d")
      CHECK_EQ(cuda_calls(), "push begin h2d end graph_destroy h2d d2h query pop");
    cuda_calls();
    OK(running.run(runner, 3));
    CHECK_EQ(cuda_calls(), "push h2d d2h query pop");
    runner.reset();
    CHECK_EQ(live_cuda(), before);
  }
  fake("10701");
  Running running;
  running.set_shape();
  Runner runner;
  OK(running.make(&runner, running.bindings(), 1));
  faults("not_capturable");
  for (int i = 0; i < 3; ++i) OK(running.run(runner, 1));
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
  CHECK_EQ(cuda_calls(), "push h2d synchronize pop");
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
  refused("name is NULL", [](Bindings& all) { all[1].name = nullptr; });
  refused("struct_size", [](Bindings& all) { all[0].struct_size = 4; });
  STATUS(INVALID_ARGUMENT, pynn_trt_runner_create(running.context, nullptr, nullptr, 0, &runner, &error));
}

int main(int, char** arguments) { return run_all(arguments[1] ? arguments[1] : ""); }
