// A CUDA driver without a GPU, built as libcuda.so.1: device memory is host memory, streams run at once
// unless they capture. Keeps a log of what was called, and fails on demand.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace {

struct Graph {
  std::vector<std::function<void()>> work;
};

std::string calls, failing;
int failure = 0, failures_left = 0, pending_queries = 0, live = 0;
bool capturing = false;
uint64_t pinned_start = 0, pinned_end = 0;
Graph recorded;

int note(const char* name) {
  calls += calls.empty() ? name : std::string(" ") + name;
  if (failing != name || failures_left == 0) return 0;
  --failures_left;
  return failure;
}

void work(std::function<void()> step) {
  if (capturing)
    recorded.work.push_back(std::move(step));
  else
    step();
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT const char* fake_cuda_calls() {
  static std::string answer;
  answer.swap(calls);
  calls.clear();
  return answer.c_str();
}
EXPORT void fake_cuda_fail(const char* name, int code, int times) {
  failing = name;
  failure = code;
  failures_left = times;
}
EXPORT void fake_cuda_pending(int queries) { pending_queries = queries; }
EXPORT void fake_cuda_pin(void* start, uint64_t bytes) {
  pinned_start = reinterpret_cast<uint64_t>(start);
  pinned_end = pinned_start + bytes;
}
EXPORT int fake_cuda_live() { return live; }
EXPORT void fake_cuda_launch(void (*function)(void*), void* argument) {
  work([=] { function(argument); });
}

EXPORT int cuCtxPushCurrent_v2(void*) { return note("push"); }
EXPORT int cuCtxPopCurrent_v2(void**) { return note("pop"); }
EXPORT int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void*) {
  if (int result = note("h2d")) return result;
  work([=] { std::memcpy(reinterpret_cast<void*>(to), from, bytes); });
  return 0;
}
EXPORT int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void*) {
  if (int result = note("d2h")) return result;
  work([=] { std::memcpy(to, reinterpret_cast<void*>(from), bytes); });
  return 0;
}
EXPORT int cuPointerGetAttribute(void* data, int attribute, uint64_t address) {
  if (int result = note("attribute")) return result;
  *static_cast<unsigned*>(data) = 1;
  return attribute == 2 && address >= pinned_start && address < pinned_end ? 0 : 1;
}
EXPORT int cuStreamSynchronize(void*) { return note("synchronize"); }
EXPORT int cuStreamQuery(void*) {
  if (int result = note("query")) return result;
  if (pending_queries == 0) return 0;
  --pending_queries;
  return 600;
}
EXPORT int cuEventCreate(void** event, unsigned flags) {
  if (int result = note("event_create")) return result;
  ++live;
  *event = new unsigned(flags);
  return flags == 3 ? 0 : 1;
}
EXPORT int cuEventRecord(void*, void*) { return note("event_record"); }
EXPORT int cuEventSynchronize(void*) { return note("event_synchronize"); }
EXPORT int cuEventDestroy_v2(void* event) {
  --live;
  delete static_cast<unsigned*>(event);
  return note("event_destroy");
}
EXPORT int cuStreamBeginCapture_v2(void*, int mode) {
  if (int result = note("begin")) return result;
  capturing = true;
  recorded.work.clear();
  return mode == 1 ? 0 : 1;
}
EXPORT int cuStreamEndCapture(void*, void** graph) {
  capturing = false;
  *graph = nullptr;
  if (int result = note("end")) return result;
  ++live;
  *graph = new Graph(recorded);
  return 0;
}
EXPORT int cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
  if (int result = note("instantiate")) return result;
  ++live;
  *executable = new Graph(*static_cast<Graph*>(graph));
  return 0;
}
EXPORT int cuGraphLaunch(void* executable, void*) {
  if (int result = note("launch")) return result;
  for (auto& step : static_cast<Graph*>(executable)->work) step();
  return 0;
}
EXPORT int cuGraphExecDestroy(void* executable) {
  --live;
  delete static_cast<Graph*>(executable);
  return note("exec_destroy");
}
EXPORT int cuGraphDestroy(void* graph) {
  --live;
  delete static_cast<Graph*>(graph);
  return note("graph_destroy");
}
EXPORT int cuGetErrorName(int code, const char** name) {
  *name = code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_FAKE";
  return code == 999 ? 1 : 0;
}
EXPORT int cuGetErrorString(int code, const char** text) {
  *text = code == 2 ? "out of memory" : "made to fail";
  return code == 999 ? 1 : 0;
}
