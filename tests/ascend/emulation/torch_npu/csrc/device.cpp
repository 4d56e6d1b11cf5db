// The device "npu" on host memory.
//
// A tensor of this device has the dispatch key PrivateUse1 and the device type that
// PyTorch renames to "npu", as with the real torch_npu, but its bytes lie in the
// host's memory and its kernels are the CPU's: an operator that nobody registers for
// the device runs on aliases of its arguments, without a copy. What a card refuses is
// refused here too: tensors of two devices in one operator, more memory than it has.

#include <malloc.h>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/InferSize.h>
#include <ATen/TensorUtils.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/Resize.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/extension.h>
#include <torch/library.h>

#include <atomic>
#include <map>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

namespace {

using at::Tensor;
using c10::Device;
using c10::DeviceIndex;
constexpr auto kNpu = c10::DeviceType::PrivateUse1;

// ---------------------------------------------------------------- memory

struct Memory {
  std::atomic<int64_t> used{0}, peak{0}, capacity{int64_t(4) << 30};
  // A caching allocator keeps what was freed until empty_cache: `reserved` is what
  // the device has lent, and what is not free on it.
  std::atomic<int64_t> reserved{0};
  bool poison = false;

  void take(int64_t n) {
    int64_t now = used += n;
    if (now > capacity) {
      used -= n;
      // The beginning is torch_npu's.
      TORCH_CHECK_WITH(OutOfMemoryError, false, "NPU out of memory. Tried to allocate ", n >> 20,
                       ".00 MiB (NPU 0; ", capacity.load() >> 20, ".00 MiB total capacity; ",
                       (now - n) >> 20, ".00 MiB already allocated; emulated)");
    }
    for (int64_t top = peak; now > top && !peak.compare_exchange_weak(top, now);) {
    }
    for (int64_t top = reserved; now > top && !reserved.compare_exchange_weak(top, now);) {
    }
  }
  void give(int64_t n) { used -= n; }
};
Memory memory;
thread_local DeviceIndex current_device = 0;
DeviceIndex device_count = 1;

void release(void* block) {
  memory.give(malloc_usable_size(block));
  free(block);
}

struct NpuAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t n) override {
    Device device(kNpu, current_device);
    if (n == 0) return {nullptr, nullptr, &release, device};
    memory.take(int64_t(n));
    void* block = nullptr;
    TORCH_CHECK(posix_memalign(&block, 512, n) == 0, "the host has no memory for the emulated NPU");
    memory.used += int64_t(malloc_usable_size(block)) - int64_t(n);
    if (memory.poison) memset(block, 0xFF, n);  // NaN in every floating type
    return {block, block, &release, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t n) const override { memcpy(to, from, n); }
};
NpuAllocator allocator;
REGISTER_ALLOCATOR(kNpu, &allocator);

// Pinned memory: ordinary memory that is remembered to be pinned.
std::mutex pinned_lock;
std::map<const char*, size_t> pinned;

void release_pinned(void* block) {
  {
    std::lock_guard<std::mutex> hold(pinned_lock);
    pinned.erase(static_cast<const char*>(block));
  }
  free(block);
}

struct PinnedAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t n) override {
    if (n == 0) return {nullptr, nullptr, &release_pinned, Device(c10::kCPU)};
    void* block = nullptr;
    TORCH_CHECK(posix_memalign(&block, 64, n) == 0, "the host has no memory to pin");
    std::lock_guard<std::mutex> hold(pinned_lock);
    pinned[static_cast<const char*>(block)] = n;
    return {block, block, &release_pinned, Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release_pinned; }
  void copy_data(void* to, const void* from, size_t n) const override { memcpy(to, from, n); }
};
PinnedAllocator pinned_allocator;

bool is_pinned(const void* at) {
  std::lock_guard<std::mutex> hold(pinned_lock);
  auto next = pinned.upper_bound(static_cast<const char*>(at));
  if (next == pinned.begin()) return false;
  --next;
  return static_cast<const char*>(at) < next->first + next->second;
}

// ------------------------------------------------- generator, guard, hooks

struct NpuGenerator final : at::CPUGeneratorImpl {
  explicit NpuGenerator(DeviceIndex index) {
    device_ = Device(kNpu, index);
    key_set_ = c10::DispatchKeySet(c10::DispatchKey::PrivateUse1);
  }
};

const at::Generator& default_generator() {
  static at::Generator it = at::make_generator<NpuGenerator>(0);
  return it;
}

struct NpuGuard final : c10::impl::DeviceGuardImplInterface {
  NpuGuard() = default;
  explicit NpuGuard(c10::DeviceType) {}
  c10::DeviceType type() const override { return kNpu; }
  Device exchangeDevice(Device d) const override {
    Device old(kNpu, current_device);
    setDevice(d);
    return old;
  }
  Device getDevice() const override { return Device(kNpu, current_device); }
  void setDevice(Device d) const override {
    if (d.index() >= 0) current_device = d.index();
  }
  void uncheckedSetDevice(Device d) const noexcept override {
    if (d.index() >= 0) current_device = d.index();
  }
  c10::Stream getStream(Device d) const override { return c10::Stream(c10::Stream::DEFAULT, d); }
  c10::Stream getNewStream(Device d, int) const override { return getStream(d); }
  c10::Stream getStreamFromGlobalPool(Device d, bool) const override { return getStream(d); }
  c10::Stream exchangeStream(c10::Stream s) const override { return getStream(s.device()); }
  DeviceIndex deviceCount() const noexcept override { return device_count; }
  void record(void**, const c10::Stream&, const DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const DeviceIndex) const override {}
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, NpuGuard);

void grow(c10::StorageImpl* storage, size_t n) {
  auto fresh = allocator.allocate(n);
  size_t kept = std::min(n, storage->nbytes());
  if (kept) memcpy(fresh.get(), storage->data(), kept);
  storage->set_data_ptr_noswap(std::move(fresh));
  storage->set_nbytes(n);
}

struct NpuHooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return device_count > 0; }
  const at::Generator& getDefaultGenerator(DeviceIndex) const override {
    return default_generator();
  }
  at::Generator getNewGenerator(DeviceIndex index) const override {
    return at::make_generator<NpuGenerator>(index < 0 ? 0 : index);
  }
  Device getDeviceFromPtr(void*) const override { return Device(kNpu, 0); }
  bool isPinnedPtr(const void* p) const override { return is_pinned(p); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_allocator; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return device_count; }
  DeviceIndex getCurrentDevice() const override { return current_device; }
  void resizePrivateUse1Bytes(const c10::Storage& s, size_t n) const override {
    grow(s.unsafeGetStorageImpl(), n);
  }
};

// -------------------------------------------- between the two devices' tensors

bool on_npu(const Tensor& t) { return t.defined() && t.device().type() == kNpu; }

// A storage that looks at another one's bytes and keeps it alive.
c10::Storage look_at(const c10::Storage& of, Device device, c10::Allocator* by) {
  struct Held {
    c10::Storage storage;
    int64_t counted;
  };
  // What an operator brought into the device's memory counts there; a look at what is there
  // does not.
  int64_t counted = device.type() == kNpu && of.device_type() != kNpu ? int64_t(of.nbytes()) : 0;
  if (counted) memory.take(counted);
  c10::DataPtr bytes(of.mutable_data(), new Held{of, counted},
                     [](void* held) {
                       auto* h = static_cast<Held*>(held);
                       memory.give(h->counted);
                       delete h;
                     },
                     device);
  return c10::Storage(c10::Storage::use_byte_size_t(), of.nbytes(), std::move(bytes), by, true);
}

Tensor with_storage(c10::Storage storage, const Tensor& like, c10::DispatchKey key) {
  auto out = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key),
                                                      like.dtype());
  auto* impl = out.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.unsafeGetTensorImpl()->is_wrapped_number()) impl->set_wrapped_number(true);
  if (like.is_conj()) out._set_conj(true);
  if (like.is_neg()) out._set_neg(true);
  return out;
}

Tensor host_alias(const Tensor& t) {
  return with_storage(look_at(t.storage(), Device(c10::kCPU), c10::GetCPUAllocator()), t,
                      c10::DispatchKey::CPU);
}

Tensor npu_alias(const Tensor& t) {
  return with_storage(look_at(t.storage(), Device(kNpu, current_device), &allocator), t,
                      c10::DispatchKey::PrivateUse1);
}

// The arguments of one operator as tensors of the host, and its results back.
class Crossing {
 public:
  Tensor there(const Tensor& t) {
    if (!on_npu(t)) {
      if (t.defined() && t.dim() > 0 && t.device().is_cpu()) strangers_ = true;
      return t;
    }
    natives_ = true;
    auto* impl = t.unsafeGetTensorImpl();
    auto known = by_impl_.find(impl);
    if (known != by_impl_.end()) return known->second;
    auto* storage = t.storage().unsafeGetStorageImpl();
    auto shared = storages_.find(storage);
    if (shared == storages_.end()) {
      auto seen = look_at(t.storage(), Device(c10::kCPU), c10::GetCPUAllocator());
      shared = storages_.emplace(storage, std::move(seen)).first;
      owners_.emplace(shared->second.unsafeGetStorageImpl(), t);
    }
    Tensor alias = with_storage(shared->second, t, c10::DispatchKey::CPU);
    by_impl_.emplace(impl, alias);
    originals_.emplace(alias.unsafeGetTensorImpl(), t);
    return alias;
  }

  // An out= argument may have been resized.
  void settle() {
    for (auto& [host, original] : originals_) {
      auto* storage = original.storage().unsafeGetStorageImpl();
      auto& there = storages_.at(storage);
      if (there.data() != storage->data()) {
        auto moved = look_at(there, Device(kNpu, current_device), &allocator);
        storage->set_nbytes(moved.nbytes());
        storage->set_data_ptr_noswap(moved.set_data_ptr(c10::DataPtr()));
      }
      if (host->sizes() != original.sizes() || host->strides() != original.strides())
        original.unsafeGetTensorImpl()->set_sizes_and_strides(host->sizes(), host->strides(),
                                                              host->storage_offset());
    }
  }

  Tensor back(const Tensor& t) {
    if (!t.defined() || !t.device().is_cpu()) return t;
    auto same = originals_.find(t.unsafeGetTensorImpl());
    if (same != originals_.end()) return same->second;
    if (!t.has_storage()) return t;
    auto view = owners_.find(t.storage().unsafeGetStorageImpl());
    if (view != owners_.end())
      return with_storage(view->second.storage(), t, c10::DispatchKey::PrivateUse1);
    return npu_alias(t);
  }

  bool mixed() const { return natives_ && strangers_; }

 private:
  bool natives_ = false, strangers_ = false;
  std::unordered_map<c10::TensorImpl*, Tensor> by_impl_;
  std::unordered_map<c10::StorageImpl*, c10::Storage> storages_;
  std::unordered_map<c10::StorageImpl*, Tensor> owners_;
  std::unordered_map<c10::TensorImpl*, Tensor> originals_;
};

// ----------------------------------------------------------- every other operator

// How often each operator fell back. Threads of one process share it.
std::mutex calls_lock;
std::unordered_map<std::string, int64_t> calls;

void count(const std::string& name) {
  std::lock_guard<std::mutex> hold(calls_lock);
  ++calls[name];
}

// These take indices or counts from the host, as on a card.
const std::unordered_set<std::string> takes_host_tensors = {
    "aten::index.Tensor",     "aten::index.Tensor_out", "aten::index_put_",
    "aten::_index_put_impl_", "aten::index_put",        "aten::_unsafe_index.Tensor"};

using Generators = std::vector<std::pair<at::Generator, at::Generator>>;

// An argument as the host's kernel takes it. A generator is lent, and its state given back.
c10::IValue to_host(const c10::IValue& value, Crossing& crossing, Generators& lent) {
  if (value.isTensor()) return crossing.there(value.toTensor());
  if (value.isTensorList()) {
    std::vector<Tensor> there;
    for (const auto& t : value.toTensorVector()) there.push_back(crossing.there(t));
    return c10::List<Tensor>(there);
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> there;
    for (std::optional<Tensor> t : value.toOptionalTensorList())
      there.push_back(t.has_value() ? std::optional<Tensor>(crossing.there(*t)) : t);
    return there;
  }
  if (value.isDevice() && value.toDevice().type() == kNpu) return Device(c10::kCPU);
  if (value.isGenerator() && value.toGenerator().device().type() == kNpu) {
    auto given = value.toGenerator();
    auto there = at::make_generator<at::CPUGeneratorImpl>(c10::default_rng_seed_val);
    there.set_state(given.get_state());
    lent.emplace_back(given, there);
    return there;
  }
  return value;
}

c10::IValue to_npu(const c10::IValue& value, Crossing& crossing) {
  if (value.isTensor()) return crossing.back(value.toTensor());
  if (!value.isTensorList()) return value;
  std::vector<Tensor> here;
  for (const auto& t : value.toTensorVector()) here.push_back(crossing.back(t));
  return c10::List<Tensor>(here);
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  Crossing crossing;
  Generators lent;
  for (size_t i = stack->size() - schema.arguments().size(); i < stack->size(); ++i)
    (*stack)[i] = to_host((*stack)[i], crossing, lent);
  const auto& overload = schema.overload_name();
  auto name = schema.name() + (overload.empty() ? "" : "." + overload);
  TORCH_CHECK(!crossing.mixed() || takes_host_tensors.count(name),
              "Expected all tensors to be on the same device, but found at least two devices, "
              "npu:0 and cpu! (", name, ")");
  count(name);
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  for (auto& [given, there] : lent) given.set_state(there.get_state());
  crossing.settle();
  for (size_t i = stack->size() - schema.returns().size(); i < stack->size(); ++i)
    (*stack)[i] = to_npu((*stack)[i], crossing);
}

// --------------------------------------------------- what a device must do itself

Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype,
             std::optional<at::Layout>, std::optional<Device> device, std::optional<bool>,
             std::optional<at::MemoryFormat> format) {
  if (device && device->index() >= 0) current_device = device->index();
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &allocator,
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
                     std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                     std::optional<Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(
      C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), &allocator,
      c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::dtype_or_default(dtype));
}

Tensor over(const Tensor& self, at::IntArrayRef size, at::IntArrayRef stride, int64_t offset) {
  auto out = at::detail::make_tensor<c10::TensorImpl>(
      c10::TensorImpl::VIEW, c10::Storage(self.storage()), self.key_set(), self.dtype());
  out.unsafeGetTensorImpl()->set_sizes_and_strides(size, stride, offset);
  return out;
}

Tensor as_strided(const Tensor& self, at::IntArrayRef size, at::IntArrayRef stride,
                  std::optional<int64_t> offset) {
  return over(self, size, stride, offset.value_or(self.storage_offset()));
}

Tensor view(const Tensor& self, at::IntArrayRef size) {
  auto whole = at::infer_size_dv(size, self.numel());
  auto stride = at::detail::computeStride(self.sizes(), self.strides(), whole);
  TORCH_CHECK(stride.has_value(),
              "view size is not compatible with input tensor's size and stride (at least one "
              "dimension spans across two contiguous subspaces). Use .reshape(...) instead.");
  return over(self, whole, *stride, self.storage_offset());
}

Tensor reshape_alias(const Tensor& self, at::IntArrayRef size, at::IntArrayRef stride) {
  return over(self, size, stride, self.storage_offset());
}

const Tensor& resize_(const Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat>) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(size);
  size_t needed = (impl->storage_offset() + impl->numel()) * self.dtype().itemsize();
  auto* storage = self.storage().unsafeGetStorageImpl();
  if (needed > storage->nbytes()) grow(storage, needed);
  return self;
}

Tensor& set_to(Tensor& self, c10::Storage source, int64_t offset, at::IntArrayRef size,
               at::IntArrayRef stride) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(source));
  if (stride.size() == size.size() && !size.empty()) {
    impl->set_sizes_and_strides(size, stride, offset);
  } else {
    impl->set_storage_offset(offset);
    impl->set_sizes_contiguous(size);
  }
  return self;
}

Tensor& set_storage(Tensor& self, c10::Storage source) {
  int64_t n = int64_t(source.nbytes() / self.dtype().itemsize());
  return set_to(self, std::move(source), 0, {n}, {});
}

Tensor& set_tensor(Tensor& self, const Tensor& source) {
  return set_to(self, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

Tensor copy_from(const Tensor& self, const Tensor& dst, bool non_blocking) {
  at::AutoDispatchBelowADInplaceOrView below;
  Tensor from = on_npu(self) ? host_alias(self) : self;
  Tensor to = on_npu(dst) ? host_alias(dst) : dst;
  to.copy_(from, non_blocking);
  return dst;
}

Tensor copy_from_and_resize(const Tensor& self, const Tensor& dst) {
  if (self.sizes() != dst.sizes()) resize_(dst, self.sizes(), {});
  return copy_from(self, dst, false);
}

at::Scalar local_scalar_dense(const Tensor& self) {
  at::AutoDispatchBelowADInplaceOrView below;
  return host_alias(self).item();
}

void record_stream(Tensor&, c10::Stream) {}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

TORCH_LIBRARY_IMPL(_, AutogradPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", TORCH_FN(empty));
  m.impl("empty_strided", TORCH_FN(empty_strided));
  m.impl("as_strided", TORCH_FN(as_strided));
  m.impl("view", TORCH_FN(view));
  m.impl("_reshape_alias", TORCH_FN(reshape_alias));
  m.impl("resize_", TORCH_FN(resize_));
  m.impl("set_.source_Storage", TORCH_FN(set_storage));
  m.impl("set_.source_Storage_storage_offset", TORCH_FN(set_to));
  m.impl("set_.source_Tensor", TORCH_FN(set_tensor));
  m.impl("_copy_from", TORCH_FN(copy_from));
  m.impl("_copy_from_and_resize", TORCH_FN(copy_from_and_resize));
  m.impl("_local_scalar_dense", TORCH_FN(local_scalar_dense));
  m.impl("record_stream", TORCH_FN(record_stream));
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  static NpuHooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  m.def("configure", [](int64_t devices, int64_t capacity, bool poison) {
    device_count = DeviceIndex(devices);
    memory.capacity = capacity;
    memory.poison = poison;
  });
  m.def("set_device", [](int64_t index) { current_device = DeviceIndex(index); });
  m.def("current_device", [] { return int64_t(current_device); });
  m.def("device_count", [] { return int64_t(device_count); });
  m.def("used", [] { return memory.used.load(); });
  m.def("reserved", [] { return memory.reserved.load(); });
  m.def("empty_cache", [] { memory.reserved = memory.used.load(); });
  m.def("peak", [] { return memory.peak.load(); });
  m.def("reset_peak", [] { memory.peak = memory.used.load(); });
  m.def("capacity", [] { return memory.capacity.load(); });
  m.def("host_alias", [](const Tensor& t) {
    TORCH_CHECK(on_npu(t), "Expected a tensor of the device npu, got one of ", t.device());
    return host_alias(t);
  });
  m.def("npu_alias", [](const Tensor& t) { return npu_alias(t); });
  m.def("weak_ref", [](const Tensor& t) {
    // Looks at the bytes, keeps nothing alive.
    c10::DataPtr bytes(t.storage().mutable_data(), Device(kNpu, current_device));
    c10::Storage storage(c10::Storage::use_byte_size_t(), t.storage().nbytes(), std::move(bytes),
                         &allocator, false);
    return with_storage(std::move(storage), t, c10::DispatchKey::PrivateUse1);
  });
  m.def("calls", [] {
    std::lock_guard<std::mutex> hold(calls_lock);
    return calls;
  });
}
