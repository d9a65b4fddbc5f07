// From C handles and structs to C++ and back, with the checks every exported function needs.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>

#include "../abi/types.h"
#include "error.h"

#define PYNN_HANDLE(noun, Class)         \
  namespace pynn {                       \
  class Class;                           \
  }                                      \
  struct pynn_trt_##noun {               \
    std::shared_ptr<pynn::Class> object; \
  }
PYNN_HANDLE(library, Library);
PYNN_HANDLE(logger, Logger);
PYNN_HANDLE(blob, Blob);
PYNN_HANDLE(builder, Builder);
PYNN_HANDLE(network, Network);
PYNN_HANDLE(config, Config);
PYNN_HANDLE(profile, Profile);
PYNN_HANDLE(progress, Progress);
PYNN_HANDLE(parser, Parser);
PYNN_HANDLE(runtime, Runtime);
PYNN_HANDLE(engine, Engine);
PYNN_HANDLE(context, Context);
PYNN_HANDLE(runner, Runner);
PYNN_HANDLE(refitter, Refitter);
#undef PYNN_HANDLE

namespace pynn {

template <class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) throw Failure(PYNN_TRT_INVALID_ARGUMENT, join(parts...));
}

template <class Handle>
const auto& shared(Handle* handle, const char* name) {
  require(handle != nullptr, name, " is NULL");
  return handle->object;
}

template <class Handle>
auto& self(Handle* handle, const char* name) {
  return *shared(handle, name);
}

template <class T>
T& out(T* pointer, const char* name) {
  require(pointer != nullptr, name, " is NULL");
  return *pointer;
}

// Out-handles are NULL on failure.
template <class Handle>
Handle*& clear(Handle** pointer, const char* name) {
  require(pointer != nullptr, name, " is NULL");
  *pointer = nullptr;
  return *pointer;
}

inline void require_index(int64_t index, int64_t count, const char* name) {
  require(index >= 0 && index < count, name, " is ", index, ", but there are ", count);
}

inline const char* require_text(const char* text, const char* name) {
  require(text != nullptr, name, " is NULL");
  return text;
}

inline void require_bytes(const void* data, uint64_t size, const char* name) {
  require(data != nullptr || size == 0, name, " is NULL with size ", size);
}

// Every field known today is in version 1 of the struct, so a smaller one is a mistake.
template <class Struct>
Struct read_struct(const Struct* given, const char* name) {
  require(given != nullptr, name, " is NULL");
  require(given->struct_size >= sizeof(Struct), name, ".struct_size is ", given->struct_size, ", need ",
          sizeof(Struct));
  return *given;
}

template <class Struct>
void write_struct(Struct* given, Struct value, const char* name) {
  value.struct_size = read_struct(given, name).struct_size;
  *given = value;
}

// Of an array whose caller may know a larger struct than we do.
template <class Struct>
Struct* element(Struct* first, int32_t index) {
  using Byte = std::conditional_t<std::is_const_v<Struct>, const char, char>;
  return reinterpret_cast<Struct*>(reinterpret_cast<Byte*>(first) +
                                   size_t{first->struct_size} * size_t(index));
}

abi::Dims make_dims(const int64_t* dims, int32_t rank, int64_t minimum);
void copy_dims(const abi::Dims& dims, int64_t* out, int32_t* rank);
std::string shape_text(const abi::Dims& dims);

}  // namespace pynn
