// IProgressMonitor: collects events for polling, and stops a build.
#pragma once

#include <atomic>
#include <deque>
#include <mutex>

#include "../abi/callbacks.h"
#include "../include/pynn_trt.h"

namespace pynn {

class Progress : private abi::ProgressMonitor {
 public:
  void* native() { return static_cast<abi::ProgressMonitor*>(this); }
  void cancel() { cancelled_ = true; }
  // A build was told to stop.
  bool stopped() const { return stopped_; }
  int32_t poll(pynn_trt_progress_event* events, int32_t capacity, int32_t* dropped);

 private:
  void phaseStart(const char* phase, const char* parent, int32_t steps) noexcept override;
  bool stepComplete(const char* phase, int32_t step) noexcept override;
  void phaseFinish(const char* phase) noexcept override;
  void push(int32_t kind, const char* phase, const char* parent, int32_t step, int32_t steps) noexcept;

  std::atomic<bool> cancelled_{false};
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;
  std::deque<pynn_trt_progress_event> events_;
  int32_t dropped_ = 0;
};

}  // namespace pynn
