// TensorRT's objects as the shim sees them: typed addresses, never dereferenced except for the two pointers
// every public object starts with. Measured layouts; csrc/tests/header_proof.cpp compares them with real
// headers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pynn::abi {

constexpr int32_t kMaxRank = 8;

struct Dims {
  int32_t rank;
  int64_t d[kMaxRank];
};
static_assert(sizeof(Dims) == 72 && offsetof(Dims, d) == 8);

struct Weights {
  int32_t type;
  const void* values;
  int64_t count;
};
static_assert(sizeof(Weights) == 24 && offsetof(Weights, values) == 8);

struct InterfaceInfo {
  const char* kind;
  int32_t major;
  int32_t minor;
};
static_assert(sizeof(InterfaceInfo) == 16);

// Most public objects only forward: their virtual methods live behind `impl`.
struct Forwarding {
  void** vtable;
  void* impl;
  void* receiver() const { return impl; }
};

// The parser's interfaces have their methods in their own vtable.
struct Direct {
  void** vtable;
  void* receiver() const { return const_cast<Direct*>(this); }
};

struct Builder : Forwarding {};
struct Network : Forwarding {};
struct Tensor : Forwarding {};
struct Layer : Forwarding {};
struct BuilderConfig : Forwarding {};
struct OptimizationProfile : Forwarding {};
struct HostMemory : Forwarding {};
struct TimingCache : Forwarding {};
struct Runtime : Forwarding {};
struct Engine : Forwarding {};
struct ExecutionContext : Forwarding {};
struct EngineInspector : Forwarding {};
struct RuntimeConfig : Forwarding {};
struct RuntimeCache : Forwarding {};
struct Refitter : Forwarding {};
struct Parser : Direct {};
struct ParserError : Direct {};
struct ParserRefitter : Direct {};

// A null with a base-class offset added (0x228 from a failed runtime) is a failure too.
inline bool is_object(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) >= 4096; }

}  // namespace pynn::abi
