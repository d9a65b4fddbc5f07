// A test is a function; CHECK says what failed and goes on, REQUIRE ends the test.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "pynn_trt.h"

namespace test {

struct Case {
  const char* name;
  std::function<void()> body;
};
inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
struct Register {
  Register(const char* name, std::function<void()> body) { cases().push_back({name, std::move(body)}); }
};
struct Stop {};
struct Skip {
  std::string reason;
};
inline int failed_checks = 0;

inline void fail(const char* file, int line, const std::string& text) {
  ++failed_checks;
  std::printf("  FAILED %s:%d: %s\n", file, line, text.c_str());
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// The last error, kept so that a failing check can show it.
class Error {
 public:
  Error() = default;
  Error(const Error&) = delete;
  ~Error() { pynn_trt_error_destroy(raw); }
  pynn_trt_error** operator&() {
    pynn_trt_error_destroy(raw);
    raw = nullptr;
    return &raw;
  }
  std::string message() const { return pynn_trt_error_message(raw); }
  std::string log() const { return pynn_trt_error_log(raw); }
  pynn_trt_error* raw = nullptr;
};

// Destroys a handle at the end of its scope.
template <class T, void (*destroy)(T*)>
class Handle {
 public:
  Handle() = default;
  Handle(const Handle&) = delete;
  ~Handle() { reset(); }
  T** operator&() {
    reset();
    return &raw;
  }
  operator T*() const { return raw; }
  void reset() {
    destroy(raw);
    raw = nullptr;
  }
  T* raw = nullptr;
};

#define PYNN_NOUNS(NOUN)   \
  NOUN(library, Library)   \
  NOUN(logger, Logger)     \
  NOUN(builder, Builder)   \
  NOUN(network, Network)   \
  NOUN(config, Config)     \
  NOUN(profile, Profile)   \
  NOUN(progress, Progress) \
  NOUN(parser, Parser)     \
  NOUN(blob, Blob)         \
  NOUN(runtime, Runtime)   \
  NOUN(engine, Engine)     \
  NOUN(context, Context)   \
  NOUN(runner, Runner)     \
  NOUN(refitter, Refitter)
#define NOUN(noun, Class) using Class = Handle<pynn_trt_##noun, pynn_trt_##noun##_destroy>;
PYNN_NOUNS(NOUN)
#undef NOUN

template <class T>
T sized() {
  T value{};
  value.struct_size = sizeof(T);
  return value;
}

inline std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

// 0: all passed, 1: some failed, 77: skipped.
inline int run_all(const std::string& filter = "") {
  int failed = 0, passed = 0;
  for (const Case& test : cases()) {
    if (!filter.empty() && !contains(test.name, filter)) continue;
    std::printf("- %s\n", test.name);
    std::fflush(stdout);
    int before = failed_checks;
    try {
      test.body();
    } catch (const Stop&) {
    } catch (const Skip& skip) {
      std::printf("  skipped: %s\n", skip.reason.c_str());
    } catch (const std::exception& exception) {
      fail(__FILE__, __LINE__, std::string("exception: ") + exception.what());
    }
    (failed_checks == before ? passed : failed) += 1;
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace test

#define CHECK(condition)                                          \
  do {                                                            \
    if (!(condition)) test::fail(__FILE__, __LINE__, #condition); \
  } while (0)
#define REQUIRE(condition)                        \
  do {                                            \
    if (!(condition)) {                           \
      test::fail(__FILE__, __LINE__, #condition); \
      throw test::Stop();                         \
    }                                             \
  } while (0)
#define CHECK_EQ(left, right)                                             \
  do {                                                                    \
    auto left_value = (left);                                             \
    auto right_value = (right);                                           \
    if (!(left_value == right_value)) {                                   \
      std::ostringstream text;                                            \
      text << #left " is " << left_value << ", expected " << right_value; \
      test::fail(__FILE__, __LINE__, text.str());                         \
    }                                                                     \
  } while (0)
#define CHECK_HAS(text, part)                                                             \
  do {                                                                                    \
    if (!test::contains(text, part))                                                      \
      test::fail(__FILE__, __LINE__, "'" + std::string(part) + "' is not in: " + (text)); \
  } while (0)
// status: a pynn_trt call that ends with &error, the test's own Error object.
#define STATUS(expected, call)                                                      \
  do {                                                                              \
    int32_t status_value = (call);                                                  \
    if (status_value != PYNN_TRT_##expected)                                        \
      test::fail(__FILE__, __LINE__,                                                \
                 std::string(#call " gave ") + pynn_trt_status_name(status_value) + \
                     ", expected " #expected ": " + error.message());               \
    else if (status_value != 0 && error.raw != nullptr)                             \
      CHECK_EQ(pynn_trt_error_status(error.raw), status_value);                     \
  } while (0)
#define OK(call)                                                                                             \
  do {                                                                                                       \
    int32_t status_value = (call);                                                                           \
    if (status_value != PYNN_TRT_OK) {                                                                       \
      test::fail(__FILE__, __LINE__,                                                                         \
                 std::string(#call " gave ") + pynn_trt_status_name(status_value) + ": " + error.message()); \
      throw test::Stop();                                                                                    \
    }                                                                                                        \
  } while (0)
#define TEST(name)                                                 \
  static void test_##name();                                       \
  static const test::Register register_##name(#name, test_##name); \
  static void test_##name()
