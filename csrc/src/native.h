// Taking over what a TensorRT factory returned.
#pragma once

#include "logger.h"

namespace pynn {

template <class T>
abi::Owned<T> adopt(const LogScope& log, T* raw, int32_t status, const std::string& what) {
  if (!abi::is_object(raw)) throw log.failure(status, what);
  return abi::Owned<T>(raw, abi::Deleter<T>{&log.logger().abi()});
}

// The self-test: an object of the expected interface knows where it came from. One that does not is given up,
// not deleted: with a wrong table the deleting slot is as unknown as the others.
template <class T, class Signature>
void prove(const Logger& logger, abi::Owned<T>& object, const abi::Method<T, Signature>& method,
           const void* expected) {
  bool same = abi::is_object(object->receiver()) && logger.abi().call(method, object.get()) == expected;
  if (same) return;
  (void)object.release();
  throw Failure(PYNN_TRT_ABI_MISMATCH,
                join("the loaded ", logger.abi().name(), " does not have the binary interface of generation ",
                     logger.abi().letter(), ": ", method.name, " gives something else than expected"));
}

inline const char* text_or_empty(const char* text) { return text != nullptr ? text : ""; }

}  // namespace pynn
