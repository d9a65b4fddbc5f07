#include "progress.h"

#include "handle.h"

namespace pynn {
namespace {

constexpr size_t kCapacity = 4096;
enum Kind : int32_t { kStarted, kStep, kFinished };

template <size_t size>
void copy_text(char (&target)[size], const char* text) {
  if (text == nullptr) text = "";
  size_t length = std::min(std::strlen(text), size - 1);
  // Not in the middle of a UTF-8 character.
  if (text[length] != '\0')
    while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) --length;
  std::memcpy(target, text, length);
  target[length] = '\0';
}

}  // namespace

void Progress::push(int32_t kind, const char* phase, const char* parent, int32_t step,
                    int32_t steps) noexcept {
  guard(nullptr, [&] {
    pynn_trt_progress_event event{};
    event.struct_size = sizeof(event);
    event.kind = kind;
    event.step = step;
    event.steps = steps;
    copy_text(event.phase, phase);
    copy_text(event.parent, parent);
    std::lock_guard lock(mutex_);
    if (events_.size() == kCapacity) {
      events_.pop_front();
      ++dropped_;
    }
    events_.push_back(event);
  });
}

void Progress::phaseStart(const char* phase, const char* parent, int32_t steps) noexcept {
  push(kStarted, phase, parent, 0, steps);
}

bool Progress::stepComplete(const char* phase, int32_t step) noexcept {
  push(kStep, phase, nullptr, step, 0);
  bool stop = cancelled_;
  if (stop) stopped_ = true;
  return !stop;
}

void Progress::phaseFinish(const char* phase) noexcept { push(kFinished, phase, nullptr, 0, 0); }

int32_t Progress::poll(pynn_trt_progress_event* events, int32_t capacity, int32_t* dropped) {
  require(capacity >= 0 && (events != nullptr || capacity == 0), "events is NULL with capacity ", capacity);
  for (int32_t i = 0; i < capacity; ++i) read_struct(element(events, i), "events[]");
  std::lock_guard lock(mutex_);
  int32_t count = 0;
  for (; count < capacity && !events_.empty(); ++count) {
    write_struct(element(events, count), events_.front(), "events[]");
    events_.pop_front();
  }
  *dropped = dropped_;
  dropped_ = 0;
  return count;
}

}  // namespace pynn

using namespace pynn;

extern "C" {

int32_t pynn_trt_progress_create(pynn_trt_progress** progress, pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(progress, "progress");
    result = new pynn_trt_progress{std::make_shared<Progress>()};
  });
}

void pynn_trt_progress_destroy(pynn_trt_progress* progress) { delete progress; }

void pynn_trt_progress_cancel(pynn_trt_progress* progress) {
  if (progress != nullptr) progress->object->cancel();
}

int32_t pynn_trt_progress_poll(pynn_trt_progress* progress, pynn_trt_progress_event* events, int32_t capacity,
                               int32_t* count, int32_t* dropped, pynn_trt_error** error) {
  return guard(error, [&] {
    Progress& object = self(progress, "progress");
    int32_t& lost = out(dropped, "dropped");
    out(count, "count") = object.poll(events, capacity, &lost);
  });
}
}
