#include "diagnosis.h"

#include <algorithm>
#include <sstream>

#include "../include/pynn_trt.h"

namespace pynn {
namespace {

constexpr int32_t kWarning = 2;

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// What follows any other error when there is no GPU; from RTX 1.6 with "cudaError 35".
constexpr const char* kNoise = "checkMacros.cpp::catchCudaError";

struct Rule {
  int32_t status;
  const char* all[2];
};

// In this order; a text must contain every part.
constexpr Rule kRules[] = {
    {PYNN_TRT_PLAN_INVALID, {"magicTag", ""}},
    {PYNN_TRT_PLAN_INVALID, {"Serialization assertion", ""}},
    {PYNN_TRT_DEVICE_OUT_OF_MEMORY, {"out of memory", ""}},
    {PYNN_TRT_DEVICE_OUT_OF_MEMORY, {"OutOfMemory", ""}},
    {PYNN_TRT_DEVICE_OUT_OF_MEMORY, {"insufficient memory", ""}},
    {PYNN_TRT_DEVICE_UNSUPPORTED, {"compute capability", "not supported"}},
    {PYNN_TRT_DEVICE_UNSUPPORTED, {"compute capability", "unsupported"}},
    {PYNN_TRT_DEVICE_UNSUPPORTED, {"Compute Capability", "not supported"}},
    {PYNN_TRT_DEVICE_UNSUPPORTED, {"cannot run on this GPU", ""}},
    {PYNN_TRT_DEVICE_UNSUPPORTED, {"cudaError 35", ""}},
    {PYNN_TRT_DEVICE_UNSUPPORTED, {"CUDA driver version is insufficient", ""}},
    {PYNN_TRT_DEVICE_UNSUPPORTED, {"CUDA initialization failure", ""}},
    {PYNN_TRT_DEVICE_UNSUPPORTED, {"no CUDA-capable device", ""}},
    // RTX up to 1.5 gives no number: the first thing it needs of a GPU, or the question which GPU there is,
    // failed.
    {PYNN_TRT_DEVICE_UNSUPPORTED, {"Cuda Runtime (In ScopedCudaStream", ""}},
    {PYNN_TRT_DEVICE_UNSUPPORTED, {"Cuda Runtime (In generateForCurrent", ""}},
};

bool applies(const Rule& rule, int32_t otherwise, const std::string& text) {
  // "Serialization" is also said of timing caches and while building.
  if (rule.status == PYNN_TRT_PLAN_INVALID && otherwise != PYNN_TRT_PLAN_INVALID) return false;
  // What the caller asked for is the reason there, not the machine.
  bool of_the_caller = otherwise == PYNN_TRT_PARSE_FAILED || otherwise == PYNN_TRT_INVALID_ARGUMENT;
  if (rule.status == PYNN_TRT_DEVICE_UNSUPPORTED && of_the_caller) return false;
  return contains(text, rule.all[0]) && contains(text, rule.all[1]);
}

}  // namespace

std::string without_noise(const std::string& text) {
  std::istringstream lines(text);
  std::string kept, line;
  while (std::getline(lines, line))
    if (!contains(line, kNoise)) kept += (kept.empty() ? "" : "\n") + line;
  return kept;
}

std::vector<std::string> essence(const std::vector<LogLine>& lines) {
  bool errors = std::any_of(lines.begin(), lines.end(), [](auto& line) { return line.severity < kWarning; });
  std::vector<std::string> texts;
  std::vector<std::string> noise;
  for (const LogLine& line : lines) {
    if (errors && line.severity >= kWarning) continue;
    std::string text = without_noise(line.text);
    auto& list = text.empty() ? noise : texts;
    if (text.empty()) text = line.text;
    if (std::find(list.begin(), list.end(), text) == list.end()) list.push_back(std::move(text));
  }
  return texts.empty() ? noise : texts;
}

int32_t classify(int32_t otherwise, const std::vector<std::string>& texts) {
  for (const Rule& rule : kRules)
    for (const std::string& text : texts)
      if (applies(rule, otherwise, text)) return rule.status;
  return otherwise;
}

}  // namespace pynn
