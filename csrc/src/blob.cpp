#include "blob.h"

#include "handle.h"

namespace pynn {

Blob::Blob(std::shared_ptr<Logger> logger, abi::Owned<abi::HostMemory> memory)
    : logger_(std::move(logger)),
      memory_(std::move(memory)),
      data_(logger_->abi().call(abi::slot::HostMemory_data, memory_.get())),
      size_(logger_->abi().call(abi::slot::HostMemory_size, memory_.get())) {}

Blob::Blob(std::string text) : text_(std::move(text)), data_(text_.data()), size_(text_.size()) {}

}  // namespace pynn

extern "C" {

void pynn_trt_blob_destroy(pynn_trt_blob* blob) { delete blob; }
const void* pynn_trt_blob_data(const pynn_trt_blob* blob) { return blob ? blob->object->data() : nullptr; }
uint64_t pynn_trt_blob_size(const pynn_trt_blob* blob) { return blob ? blob->object->size() : 0; }
}
