#include "runner.h"

#include <chrono>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "handle.h"
#include "native.h"

namespace pynn {
namespace {

// Whatever was sent before a failure still reads and writes the caller's buffers.
class Drain {
 public:
  Drain(const Driver& driver, void* stream) : driver_(driver), stream_(stream) {}
  ~Drain() {
    if (armed_) driver_.stream_synchronize(stream_);
  }
  void disarm() { armed_ = false; }

 private:
  const Driver& driver_;
  void* stream_;
  bool armed_ = true;
};

bool is_power_of_two(uint64_t number) { return (number & (number - 1)) == 0; }

// In mode 2 a wait spins for so long, then sleeps.
constexpr auto kSpin = std::chrono::microseconds(2000);

// Every query takes a lock of the driver from the threads that send work, so they get rarer as a wait gets
// longer: the delay is at most this part of it.
constexpr uint32_t kEagerQueries = 64;
constexpr int kPatience = 256;

void relax() {
#if defined(__SSE2__)
  _mm_pause();
#endif
}

// Larger inputs go in pieces, so that the GPU fetches one while the next is staged.
constexpr size_t kPiece = size_t{1} << 20;

// Past the caches: the GPU fetches lines that lie modified in a cache 8 us later (H200, 300 KB).
void copy_past_caches(void* to, const void* from, size_t bytes) {
#if defined(__SSE2__)
  auto* target = static_cast<char*>(to);
  auto* source = static_cast<const char*>(from);
  // Staging memory begins at multiples of 256, and pieces do too.
  for (; bytes >= 64; bytes -= 64, target += 64, source += 64) {
    auto* in = reinterpret_cast<const __m128i*>(source);
    auto* out = reinterpret_cast<__m128i*>(target);
    __m128i a = _mm_loadu_si128(in), b = _mm_loadu_si128(in + 1);
    __m128i c = _mm_loadu_si128(in + 2), d = _mm_loadu_si128(in + 3);
    _mm_stream_si128(out, a);
    _mm_stream_si128(out + 1, b);
    _mm_stream_si128(out + 2, c);
    _mm_stream_si128(out + 3, d);
  }
  std::memcpy(target, source, bytes);
  _mm_sfence();
#else
  std::memcpy(to, from, bytes);
#endif
}

}  // namespace

Runner::Runner(std::shared_ptr<Context> context, const pynn_trt_runner_options& options,
               const pynn_trt_binding* bindings, int32_t count)
    : context_(std::move(context)),
      driver_(Driver::get()),
      stream_(reinterpret_cast<void*>(static_cast<uintptr_t>(options.stream))),
      cuda_context_(options.cuda_context),
      wait_(options.wait),
      want_graph_(options.use_cuda_graph != 0),
      revision_(context_->revision()) {
  for (int32_t i = 0; i < count; ++i) add(read_struct(element(bindings, i), "bindings[]"));
  require_complete();
  require(wait_ >= 0 && wait_ <= 2, "wait is ", wait_, ", allowed are 0 to 2");
  no_graph_reason_ = want_graph_ ? "not captured yet: the first run is a plain one" : "not asked for";
  CurrentContext current(driver_, cuda_context_);
  driver_.check(current.result(), "make the CUDA context current");
  if (wait_ != 0) {
    void* event = nullptr;
    driver_.check(driver_.event_create(&event, Driver::kEventBlockingSync | Driver::kEventDisableTiming),
                  "create an event");
    event_ = Resource(event, Destroy{driver_.event_destroy});
  }
  bind();
}

Runner::~Runner() {
  if (context_->bound_by() == this) context_->set_bound_by(nullptr);
  CurrentContext current(driver_, cuda_context_);
  if (current.result() == Driver::kSuccess) {
    graph_.reset();
    event_.reset();
  } else {
    // The CUDA context is gone, and these with it.
    (void)graph_.release();
    (void)event_.release();
  }
}

void Runner::add(const pynn_trt_binding& binding) {
  const char* name = require_text(binding.name, "bindings[].name");
  const Engine& engine = context_->engine();
  engine.require_io(name);
  bool is_output = binding.is_output != 0;
  require(engine.is_input(name) != is_output, "'", name, "' is an ", is_output ? "input" : "output",
          " of the engine, the binding says otherwise");
  for (const auto* buffers : {&inputs_, &outputs_})
    for (const Buffer& buffer : *buffers) require(buffer.name != name, "'", name, "' is bound twice");

  abi::Dims shape = context_->tensor_shape(name);
  bool known = true;
  uint64_t count = 1;
  for (int32_t i = 0; i < shape.rank; ++i) {
    known = known && shape.d[i] >= 0;
    count *= static_cast<uint64_t>(std::max<int64_t>(shape.d[i], 0));
  }
  require(known || is_output, "the shape of input '", name, "' is not set: ", shape_text(shape));
  uint64_t needed = (count * static_cast<uint64_t>(engine.bits_per_component(name)) + 7) / 8;
  require(!known || binding.bytes >= needed, "'", name, "' of shape ", shape_text(shape), " needs ", needed,
          " bytes, the binding has ", binding.bytes);
  bool has_staging = binding.staging != nullptr || binding.mapped != 0;
  require(binding.bytes == 0 || (has_staging && binding.device != 0), "'", name,
          "' is bound to a NULL buffer");
  require(binding.mapped != 0 || reinterpret_cast<uintptr_t>(binding.staging) % 64 == 0,
          "the staging memory of '", name, "' is not aligned to 64 bytes");
  (is_output ? outputs_ : inputs_)
      .push_back(
          {name, binding.staging, binding.device, static_cast<size_t>(binding.bytes), binding.mapped != 0});
}

void Runner::require_complete() const {
  const Engine& engine = context_->engine();
  for (int32_t i = 0, count = engine.io_count(); i < count; ++i) {
    bool bound = false;
    for (const auto* buffers : {&inputs_, &outputs_})
      for (const Buffer& buffer : *buffers) bound = bound || buffer.name == engine.io_name(i);
    require(bound, "no binding for '", engine.io_name(i), "'");
  }
}

void Runner::bind() {
  for (const auto* buffers : {&inputs_, &outputs_})
    for (const Buffer& buffer : *buffers) context_->set_address(buffer.name.c_str(), buffer.device);
  context_->set_bound_by(this);
}

void Runner::run(const void* const* inputs, void* const* outputs) {
  require(context_->revision() == revision_,
          "the context's shapes, profile or memory were set after this runner was made: make a new runner");
  CurrentContext current(driver_, cuda_context_);
  driver_.check(current.result(), "make the CUDA context current");
  {
    Drain drain(driver_, stream_);
    stage(inputs);
    send();
    send_outputs(outputs);
    wait();
    drain.disarm();
  }
  ++runs_;
  for (size_t i = 0; outputs != nullptr && i < outputs_.size(); ++i) {
    const Buffer& buffer = outputs_[i];
    if (outputs[i] != nullptr && buffer.bytes != 0 && (buffer.mapped || buffer.host != outputs[i]))
      std::memcpy(outputs[i], buffer.staging, buffer.bytes);
  }
}

void Runner::launch() {
  require(context_->revision() == revision_,
          "the context's shapes, profile or memory were set after this runner was made: make a new runner");
  CurrentContext current(driver_, cuda_context_);
  driver_.check(current.result(), "make the CUDA context current");
  stage(nullptr);
  send();
  send_outputs(nullptr);
  ++runs_;
}

void Runner::stage(const void* const* inputs) {
  for (size_t i = 0; i < inputs_.size(); ++i) stage(inputs_[i], inputs == nullptr ? nullptr : inputs[i]);
}

void Runner::stage(Buffer& buffer, const void* array) {
  if (buffer.bytes == 0) return;
  if (buffer.mapped) {
    if (array != nullptr) std::memcpy(buffer.staging, array, buffer.bytes);
    return;
  }
  bool in_place = array == nullptr || is_pinned(array, buffer.bytes);
  auto* from = static_cast<const char*>(array == nullptr ? buffer.staging : array);
  auto* staging = static_cast<char*>(buffer.staging);
  size_t piece = in_place ? buffer.bytes : kPiece;
  for (size_t at = 0; at < buffer.bytes; at += piece) {
    size_t size = std::min(piece, buffer.bytes - at);
    if (!in_place) copy_past_caches(staging + at, from + at, size);
    driver_.check(
        driver_.copy_to_device(buffer.device + at, in_place ? from + at : staging + at, size, stream_),
        "copy an input to the GPU");
  }
}

bool Runner::is_pinned(const void* memory, size_t bytes) const {
  auto is_host = [&](uintptr_t address) {
    unsigned type = 0;
    return driver_.pointer_attribute(&type, Driver::kPointerMemoryType, address) == Driver::kSuccess &&
           type == Driver::kMemoryTypeHost;
  };
  auto start = reinterpret_cast<uintptr_t>(memory);
  return is_host(start) && is_host(start + bytes - 1);
}

void Runner::send() {
  // TensorRT settles what it put off in the first enqueue, so only later ones are worth capturing.
  if (want_graph_ && graph_ == nullptr && runs_ > 0) try_capture();
  if (graph_ != nullptr)
    driver_.check(driver_.graph_launch(graph_.get(), stream_), "launch the CUDA graph");
  else
    enqueue();
}

void Runner::enqueue() {
  // A captured graph has its own addresses; only this asks the context for them.
  if (context_->bound_by() != this) bind();
  context_->enqueue(static_cast<uint64_t>(reinterpret_cast<uintptr_t>(stream_)));
}

void Runner::send_outputs(void* const* outputs) {
  for (size_t i = 0; i < outputs_.size(); ++i) {
    Buffer& buffer = outputs_[i];
    if (!buffer.copied()) continue;
    void* array = outputs == nullptr ? nullptr : outputs[i];
    buffer.host = array != nullptr && is_pinned(array, buffer.bytes) ? array : buffer.staging;
    driver_.check(driver_.copy_to_host(buffer.host, buffer.device, buffer.bytes, stream_),
                  "copy an output from the GPU");
  }
}

void Runner::try_capture() {
  // While TensorRT for RTX compiles kernels in the background it answers no; asked again ever more rarely.
  if (!is_power_of_two(runs_)) return;
  uint64_t stream = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(stream_));
  if (context_->can_tell_capturable() && !context_->is_stream_capturable(stream)) {
    no_graph_reason_ = "TensorRT says that the stream cannot be captured now";
    return;
  }
  pynn_trt_error* error = nullptr;
  if (guard(&error, [&] { capture(); }) == PYNN_TRT_OK) {
    no_graph_reason_ = "";
    return;
  }
  want_graph_ = false;
  std::unique_ptr<pynn_trt_error, void (*)(pynn_trt_error*)> owned(error, pynn_trt_error_destroy);
  capture_failure_ = error->message;  // once: want_graph_ is off from now on
  no_graph_reason_ = capture_failure_.c_str();
}

void Runner::capture() {
  driver_.check(driver_.stream_begin_capture(stream_, Driver::kCaptureThreadLocal),
                "begin the stream capture");
  pynn_trt_error* error = nullptr;
  int32_t status = guard(&error, [&] { enqueue(); });
  void* graph = nullptr;
  // Also after a failure: only this takes the stream out of capture mode.
  int ended = driver_.stream_end_capture(stream_, &graph);
  std::unique_ptr<pynn_trt_error, void (*)(pynn_trt_error*)> owned(error, pynn_trt_error_destroy);
  Resource owned_graph(graph, Destroy{driver_.graph_destroy});
  if (status != PYNN_TRT_OK) throw Failure(status, error->message);
  driver_.check(ended, "end the stream capture");
  void* executable = nullptr;
  driver_.check(driver_.graph_instantiate(&executable, graph, 0), "instantiate the CUDA graph");
  graph_ = Resource(executable, Destroy{driver_.graph_exec_destroy});
}

void Runner::wait() {
  if (wait_ == 1) return sleep_until_done();
  using Clock = std::chrono::steady_clock;
  Clock::time_point start;
  for (uint32_t turn = 0;; ++turn) {
    int result = driver_.stream_query(stream_);
    if (result != Driver::kNotReady) return driver_.check(result, "wait for the GPU");
    if (turn < kEagerQueries) continue;
    auto now = Clock::now();
    if (turn == kEagerQueries) start = now;
    auto passed = now - start;
    if (wait_ == 2 && passed >= kSpin) return sleep_until_done();
    for (auto end = now + passed / kPatience; Clock::now() < end;) relax();
  }
}

void Runner::sleep_until_done() {
  driver_.check(driver_.event_record(event_.get(), stream_), "record an event");
  driver_.check(driver_.event_synchronize(event_.get()), "wait for the GPU");
}

void Runner::describe(pynn_trt_runner_info* info) const {
  pynn_trt_runner_info value{};
  value.cuda_graph_reason = no_graph_reason_;
  value.cuda_graph = *value.cuda_graph_reason == '\0';
  value.runs = runs_;
  write_struct(info, value, "info");
}

}  // namespace pynn

using namespace pynn;

extern "C" {

int32_t pynn_trt_runner_create(pynn_trt_context* context, const pynn_trt_runner_options* options,
                               const pynn_trt_binding* bindings, int32_t count, pynn_trt_runner** runner,
                               pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(runner, "runner");
    const auto& parent = shared(context, "context");
    require(count >= 1 && bindings != nullptr, "bindings is empty");
    result = new pynn_trt_runner{
        std::make_shared<Runner>(parent, read_struct(options, "options"), bindings, count)};
  });
}

void pynn_trt_runner_destroy(pynn_trt_runner* runner) { delete runner; }

int32_t pynn_trt_runner_run(pynn_trt_runner* runner, const void* const* inputs, void* const* outputs,
                            pynn_trt_error** error) {
  return guard(error, [&] { self(runner, "runner").run(inputs, outputs); });
}

int32_t pynn_trt_runner_launch(pynn_trt_runner* runner, pynn_trt_error** error) {
  return guard(error, [&] { self(runner, "runner").launch(); });
}

int32_t pynn_trt_runner_describe(const pynn_trt_runner* runner, pynn_trt_runner_info* info,
                                 pynn_trt_error** error) {
  return guard(error, [&] { self(runner, "runner").describe(info); });
}
}
