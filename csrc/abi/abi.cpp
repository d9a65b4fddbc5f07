#include "abi.h"

#include <cstdlib>

#include "../src/error.h"

namespace pynn::abi {
namespace {

struct Known {
  Flavor flavor;
  int major, first_minor, last_minor;
  Generation generation;
};

constexpr Known kKnown[] = {
    {Flavor::Rtx, 1, 3, 4, Generation::A},
    {Flavor::Rtx, 1, 5, 7, Generation::B},
    {Flavor::TensorRT, 10, 0, 16, Generation::C},
    {Flavor::TensorRT, 11, 0, 4, Generation::D},
};

constexpr const char* product(Flavor flavor) { return flavor == Flavor::Rtx ? "TensorRT-RTX" : "TensorRT"; }

bool before(int major, int minor, const Known& known) {
  return major < known.major || (major == known.major && minor < known.first_minor);
}

bool after(int major, int minor, const Known& known) {
  return major > known.major || (major == known.major && minor > known.last_minor);
}

// The last row that does not lie after the version, else the flavor's first row.
const Known& nearest(Flavor flavor, int major, int minor) {
  const Known* best = nullptr;
  for (const Known& known : kKnown)
    if (known.flavor == flavor && (best == nullptr || !before(major, minor, known))) best = &known;
  return *best;
}

}  // namespace

std::string Abi::known_versions() {
  std::string text;
  const Known* previous = nullptr;
  for (size_t i = 0; i < std::size(kKnown); ++i) {
    const Known& known = kKnown[i];
    bool joined = previous != nullptr && previous->flavor == known.flavor && previous->major == known.major;
    if (!joined) {
      if (previous != nullptr) text += join("-", previous->major, ".", previous->last_minor, ", ");
      text += join(product(known.flavor), " ", known.major, ".", known.first_minor);
    }
    previous = &known;
  }
  return text + join("-", previous->major, ".", previous->last_minor);
}

Abi::Abi(Flavor flavor, int major, int minor, bool force)
    : name_(join(product(flavor), " ", major, ".", minor)) {
  const Known& known = nearest(flavor, major, minor);
  forced_ = before(major, minor, known) || after(major, minor, known);
  if (forced_ && !force)
    throw Failure(
        PYNN_TRT_VERSION_UNSUPPORTED,
        join("found ", name_, ", but the binary interface is known for ", known_versions(), " only"));
  generation_ = known.generation;
  if (major == known.major)
    minor_ = minor;
  else
    minor_ = major > known.major ? known.last_minor : known.first_minor;
  late_ = generation_ == Generation::C && minor_ == 8;
}

void Abi::refuse(const char* name, const Row& row) const {
  const Cell& cell = row[static_cast<size_t>(generation_)];
  std::string reason = cell.number < 0
                           ? join(name_, " has no ", name)
                           : join(name_, " has no ", name, ", which came with minor version ", cell.since);
  throw Failure(PYNN_TRT_NOT_SUPPORTED, std::move(reason));
}

}  // namespace pynn::abi
