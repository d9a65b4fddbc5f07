// Which slot and which number a loaded TensorRT uses, and the one place that makes the call.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>

#include "types.h"

namespace pynn::abi {

enum class Flavor : int32_t { TensorRT = 0, Rtx = 1 };
enum class Generation : uint8_t { A, B, C, D };

struct Cell {
  int16_t number;
  int16_t since;
  bool late;
};
inline constexpr Cell none{-1, 0, false};
constexpr Cell at(int16_t number, int16_t since = 0) { return {number, since, false}; }
constexpr Cell late(int16_t number, int16_t since = 0) { return {number, since, true}; }
using Row = std::array<Cell, 4>;

template <class Class, class Signature>
struct Method {
  const char* name;
  Row row;
};

struct Enumerator {
  const char* name;
  Row row;
};

namespace slot {
#define METHOD(class_, method, signature, a, b, c, d) \
  inline constexpr Method<class_, signature> class_##_##method{#class_ "::" #method, {a, b, c, d}};
#include "slots.inc"
#undef METHOD
}  // namespace slot

namespace number {
#define ENUMERATOR(enum_, name, a, b, c, d) \
  inline constexpr Enumerator enum_##_##name{#enum_ "::" #name, {a, b, c, d}};
#include "enums.inc"
#undef ENUMERATOR
}  // namespace number

// A struct too large for registers comes back through a hidden pointer. Itanium puts it before `this`, just
// as for a plain function of the same parameters, so that the plain function type does; MSVC puts it after.
template <class Result, class... Parameters>
Result invoke(void* receiver, int slot, Parameters... arguments) {
  void** vtable = *static_cast<void***>(receiver);
  if constexpr (std::is_same_v<Result, bool>) {
    using Function = unsigned char (*)(void*, Parameters...);
    return reinterpret_cast<Function>(vtable[slot])(receiver, arguments...) != 0;
#if defined(_MSC_VER)
  } else if constexpr (std::is_class_v<Result>) {
    using Function = Result* (*)(void*, Result*, Parameters...);
    Result result;
    reinterpret_cast<Function>(vtable[slot])(receiver, &result, arguments...);
    return result;
#endif
  } else {
    using Function = Result (*)(void*, Parameters...);
    return reinterpret_cast<Function>(vtable[slot])(receiver, arguments...);
  }
}

template <class T>
struct Same {
  using type = T;
};

// The interface of one loaded library.
class Abi {
 public:
  // Throws VERSION_UNSUPPORTED for a version outside the table unless forced.
  Abi(Flavor flavor, int major, int minor, bool force);

  static std::string known_versions();

  Generation generation() const { return generation_; }
  char letter() const { return static_cast<char>('A' + static_cast<int>(generation_)); }
  bool forced() const { return forced_; }
  const std::string& name() const { return name_; }

  template <class Class, class Signature>
  bool has(const Method<Class, Signature>& method) const {
    return find(method.row) >= 0;
  }
  bool has(const Enumerator& enumerator) const { return find(enumerator.row) >= 0; }
  // The slot or number in this version, -1 if there is none.
  int find(const Row& row) const {
    const Cell& cell = row[static_cast<size_t>(generation_)];
    if (cell.number < 0 || cell.since > minor_) return -1;
    return cell.number + (cell.late && late_ ? 1 : 0);
  }
  int32_t number(const Enumerator& enumerator) const { return checked(enumerator.name, enumerator.row); }

  template <class Class, class Result, class... Parameters>
  Result call(const Method<Class, Result(Parameters...)>& method, const Class* object,
              typename Same<Parameters>::type... arguments) const {
    return invoke<Result, Parameters...>(object->receiver(), checked(method.name, method.row), arguments...);
  }

  void destroy(Forwarding* object) const { invoke<void>(object, 1); }
  void destroy(Parser* object) const { call(slot::Parser_destroy, object); }
  void destroy(ParserRefitter* object) const { call(slot::ParserRefitter_destroy, object); }

 private:
  int checked(const char* name, const Row& row) const {
    int found = find(row);
    if (found < 0) refuse(name, row);
    return found;
  }
  [[noreturn]] void refuse(const char* name, const Row& row) const;

  Generation generation_;
  int minor_;
  bool late_;
  bool forced_;
  std::string name_;
};

template <class T>
struct Deleter {
  const Abi* abi = nullptr;
  void operator()(T* object) const { abi->destroy(object); }
};
template <class T>
using Owned = std::unique_ptr<T, Deleter<T>>;

}  // namespace pynn::abi
