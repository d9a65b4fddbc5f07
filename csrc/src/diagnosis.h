// What TensorRT logged during a failing call, made into a status and one readable text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pynn {

struct LogLine {
  int32_t severity = 0;
  uint64_t sequence = 0;
  std::string text;
};

// Without the lines that every failure on a machine without a GPU carries along.
std::string without_noise(const std::string& text);

// The texts that say something: errors if there are any, else warnings; no repetitions, no noise unless
// alone.
std::vector<std::string> essence(const std::vector<LogLine>& lines);

// The status that the texts prove, else `otherwise`.
int32_t classify(int32_t otherwise, const std::vector<std::string>& texts);

}  // namespace pynn
