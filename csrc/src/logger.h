// Collects what TensorRT logs: a bounded queue for polling, and per call the lines for its error.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "diagnosis.h"
#include "error.h"
#include "library.h"

namespace pynn {

class LogScope;

class Logger {
 public:
  Logger(std::shared_ptr<Library> library, int32_t max_severity, int32_t capacity);
  ~Logger();
  Logger(const Logger&) = delete;

  const Library& library() const { return *library_; }
  const abi::Abi& abi() const { return library_->abi(); }
  // The ILogger of the library's generation.
  void* native() const { return native_; }

  // own: the scope of the thread that logs, NULL on TensorRT's worker threads.
  void receive(int32_t severity, const char* text, LogScope* own);
  bool poll(LogLine* line, const char** text);

 private:
  friend class LogScope;

  std::shared_ptr<Library> library_;
  void* native_;
  const int32_t max_severity_;
  const size_t capacity_;
  std::mutex mutex_;
  std::deque<LogLine> queue_;
  std::string polled_;
  uint64_t sequence_ = 0;
  LogScope* scopes_ = nullptr;
};

// Alive during one call into TensorRT. Takes the lines logged on its own thread, and those of TensorRT's
// worker threads while the call lasts. Allocates nothing unless something is logged.
class LogScope {
 public:
  explicit LogScope(Logger& logger);
  ~LogScope();
  LogScope(const LogScope&) = delete;

  // what: the attempt, as "cannot build the engine". The status may become a more precise one.
  Failure failure(int32_t status, const std::string& what) const;
  bool has_errors() const;
  Logger& logger() const { return logger_; }

 private:
  friend class Logger;
  void add(int32_t severity, const char* text);

  Logger& logger_;
  LogScope* outer_;
  LogScope* next_ = nullptr;
  std::vector<LogLine> lines_;
};

}  // namespace pynn
