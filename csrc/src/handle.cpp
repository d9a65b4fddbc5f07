#include "handle.h"

namespace pynn {

abi::Dims make_dims(const int64_t* dims, int32_t rank, int64_t minimum) {
  require(rank >= 0 && rank <= abi::kMaxRank, "rank is ", rank, ", allowed are 0 to ", abi::kMaxRank);
  require(dims != nullptr || rank == 0, "dims is NULL with rank ", rank);
  abi::Dims made{};
  made.rank = rank;
  for (int32_t i = 0; i < rank; ++i) {
    require(dims[i] >= minimum, "dims[", i, "] is ", dims[i], ", the least allowed is ", minimum);
    made.d[i] = dims[i];
  }
  return made;
}

void copy_dims(const abi::Dims& dims, int64_t* out, int32_t* rank) {
  *rank = std::clamp(dims.rank, -1, abi::kMaxRank);
  std::fill(out, out + abi::kMaxRank, 0);
  if (*rank > 0) std::copy(dims.d, dims.d + *rank, out);
}

std::string shape_text(const abi::Dims& dims) {
  std::string text = "[";
  for (int32_t i = 0; i < dims.rank; ++i) text += join(i ? ", " : "", dims.d[i]);
  return text + "]";
}

}  // namespace pynn
