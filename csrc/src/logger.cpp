#include "logger.h"

#include <algorithm>
#include <map>
#include <string>

#include "../abi/callbacks.h"
#include "handle.h"

namespace pynn {
namespace {

constexpr size_t kLinesPerScope = 256;
constexpr int32_t kWarning = 2;
thread_local LogScope* current_scope = nullptr;

}  // namespace

// What TensorRT holds a pointer to. It keeps the first logger that it is given in a global, warns of every
// other one and may call it after everything we made is gone: so there is one for each loaded library, and it
// is never freed.
class LogRelay : private abi::PlainLogger, private abi::VersionedLogger {
 public:
  static LogRelay& of(const Library& library) {
    static std::mutex mutex;
    static auto* const relays = new std::map<std::string, LogRelay>;
    std::lock_guard lock(mutex);
    return (*relays)[library.path()];
  }

  void* native(abi::Generation generation) {
    if (generation == abi::Generation::A || generation == abi::Generation::C)
      return static_cast<abi::PlainLogger*>(this);
    return static_cast<abi::VersionedLogger*>(this);
  }

  void attach(Logger* sink) {
    std::lock_guard lock(mutex_);
    sinks_.push_back(sink);
  }

  void detach(Logger* sink) {
    std::lock_guard lock(mutex_);
    sinks_.erase(std::find(sinks_.begin(), sinks_.end(), sink));
  }

 private:
  void log(int32_t severity, const char* text) noexcept override {
    guard(nullptr, [&] {
      if (text == nullptr) return;
      if (LogScope* scope = current_scope) return scope->logger().receive(severity, text, scope);
      // A thread of TensorRT's own: nothing says for whom it works.
      std::lock_guard lock(mutex_);
      for (Logger* sink : sinks_) sink->receive(severity, text, nullptr);
    });
  }

  std::mutex mutex_;
  std::vector<Logger*> sinks_;
};

Logger::Logger(std::shared_ptr<Library> library, int32_t max_severity, int32_t capacity)
    : library_(std::move(library)), max_severity_(max_severity), capacity_(static_cast<size_t>(capacity)) {
  LogRelay& relay = LogRelay::of(*library_);
  native_ = relay.native(abi().generation());
  relay.attach(this);
}

Logger::~Logger() { LogRelay::of(*library_).detach(this); }

void Logger::receive(int32_t severity, const char* text, LogScope* own) {
  std::lock_guard lock(mutex_);
  if (severity <= kWarning) {
    if (own != nullptr)
      own->add(severity, text);
    else
      for (LogScope* scope = scopes_; scope != nullptr; scope = scope->next_) scope->add(severity, text);
  }
  uint64_t sequence = sequence_++;
  if (severity > max_severity_ || capacity_ == 0) return;
  if (queue_.size() == capacity_) queue_.pop_front();
  queue_.push_back({severity, sequence, text});
}

bool Logger::poll(LogLine* line, const char** text) {
  std::lock_guard lock(mutex_);
  if (queue_.empty()) return false;
  *line = std::move(queue_.front());
  queue_.pop_front();
  polled_ = std::move(line->text);
  *text = polled_.c_str();
  return true;
}

LogScope::LogScope(Logger& logger) : logger_(logger), outer_(current_scope) {
  std::lock_guard lock(logger_.mutex_);
  next_ = logger_.scopes_;
  logger_.scopes_ = this;
  current_scope = this;
}

LogScope::~LogScope() {
  current_scope = outer_;
  std::lock_guard lock(logger_.mutex_);
  LogScope** link = &logger_.scopes_;
  while (*link != this) link = &(*link)->next_;
  *link = next_;
}

void LogScope::add(int32_t severity, const char* text) {
  // Many warnings must not crowd out the error at the end.
  if (lines_.size() == kLinesPerScope && severity < kWarning) {
    auto warning =
        std::find_if(lines_.begin(), lines_.end(), [](auto& line) { return line.severity >= kWarning; });
    if (warning != lines_.end()) lines_.erase(warning);
  }
  if (lines_.size() < kLinesPerScope) lines_.push_back({severity, 0, text});
}

bool LogScope::has_errors() const {
  std::lock_guard lock(logger_.mutex_);
  return std::any_of(lines_.begin(), lines_.end(),
                     [](const LogLine& line) { return line.severity < kWarning; });
}

Failure LogScope::failure(int32_t status, const std::string& what) const {
  std::lock_guard lock(logger_.mutex_);
  std::vector<std::string> texts = essence(lines_);
  Failure failure(classify(status, texts), what);
  for (size_t i = 0; i < texts.size(); ++i) failure.detail.message += (i ? "\n" : ": ") + texts[i];
  if (texts.empty() && status != PYNN_TRT_CANCELLED) failure.detail.message += ": TensorRT gave no reason";
  for (const LogLine& line : lines_)
    failure.detail.log += (failure.detail.log.empty() ? "" : "\n") + line.text;
  return failure;
}

}  // namespace pynn

using namespace pynn;

extern "C" {

int32_t pynn_trt_logger_create(pynn_trt_library* library, int32_t max_severity, int32_t capacity,
                               pynn_trt_logger** logger, pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(logger, "logger");
    require(max_severity >= 0 && max_severity <= 4, "max_severity is ", max_severity, ", allowed are 0 to 4");
    require(capacity >= 0 && capacity <= 1 << 20, "capacity is ", capacity, ", allowed are 0 to ", 1 << 20);
    result =
        new pynn_trt_logger{std::make_shared<Logger>(shared(library, "library"), max_severity, capacity)};
  });
}

void pynn_trt_logger_destroy(pynn_trt_logger* logger) { delete logger; }

int32_t pynn_trt_logger_poll(pynn_trt_logger* logger, pynn_trt_log_line* line, int32_t* available,
                             pynn_trt_error** error) {
  return guard(error, [&] {
    Logger& object = self(logger, "logger");
    pynn_trt_log_line value = read_struct(line, "line");
    LogLine taken;
    out(available, "available") = object.poll(&taken, &value.text);
    if (*available == 0) return;
    value.severity = taken.severity;
    value.sequence = taken.sequence;
    write_struct(line, value, "line");
  });
}
}
