// libcuda.so.1: a driver with one GPU, which is this process. Device memory is main memory.
//
//   PRETEND_MEMORY         bytes of it (default 16 GB)
//   PRETEND_LAUNCHES       kernels that run before the device is lost (default: it never is)
//   PRETEND_EARLY_COPIES   asynchronous copies are made at once, and not as late as may be
#include "ptx.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <set>

#define DRIVER extern "C" __attribute__((visibility("default"))) int

void fail(const std::string &what) {
    std::fprintf(stderr, "pretended GPU: %s\n", what.c_str());
    std::abort();
}

namespace {

enum : int { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, ILLEGAL_ADDRESS = 700 };

size_t setting(const char *name, size_t otherwise) {
    const char *value = std::getenv(name);
    return value ? std::strtoull(value, nullptr, 0) : otherwise;
}

// The context that it was loaded in, and its text.
using Module = std::pair<void *, std::string>;

struct Device {
    // Held by every call: a stream has one order.
    std::mutex mutex;
    // Sizes by address.
    std::map<uint64_t, size_t> allocated;
    const size_t memory = setting("PRETEND_MEMORY", size_t(16) << 30);
    size_t used = 0;
    size_t launches_left = setting("PRETEND_LAUNCHES", SIZE_MAX);
    bool lost = false;
    // Those that are loaded.
    std::multiset<Module> modules;
    // By module and name.
    std::map<std::pair<void *, std::string>, Kernel> kernels;
} device;

// Everybody who retains the context gets one of his own, to be told apart by.
thread_local void *context = nullptr;

// Whatever a handle is for, there is one of it.
int give(void **handle) {
    *handle = &device;
    return SUCCESS;
}

int allocate(void **address, size_t size) {
    const std::lock_guard lock(device.mutex);
    if (device.lost)
        return ILLEGAL_ADDRESS;
    if (device.used + size > device.memory)
        return OUT_OF_MEMORY;
    *address = std::aligned_alloc(256, (size + 255) / 256 * 256);
    // New memory has no defined content.
    std::memset(*address, 0xcb, size);
    device.allocated[uint64_t(*address)] = size;
    device.used += size;
    return SUCCESS;
}

int release(void *address) {
    const std::lock_guard lock(device.mutex);
    const auto found = device.allocated.find(uint64_t(address));
    if (found == device.allocated.end())
        fail("what is freed was not allocated");
    device.used -= found->second;
    device.allocated.erase(found);
    std::free(address);
    return SUCCESS;
}

// `to` and `from` are looked at where they lie on the device.
int copy(void *to, const void *from, size_t size, bool to_device, bool from_device) {
    const std::lock_guard lock(device.mutex);
    if (device.lost)
        return ILLEGAL_ADDRESS;
    const bool to_is_there = !to_device || is_allocated(uint64_t(to), size);
    if (size > 0 && !(to_is_there && (!from_device || is_allocated(uint64_t(from), size))))
        fail("a copy outside of what was allocated");
    std::memmove(to, from, size);
    return SUCCESS;
}

} // namespace

bool is_allocated(uint64_t address, size_t size) {
    const auto after = device.allocated.upper_bound(address);
    return after != device.allocated.begin() && address + size <= std::prev(after)->first + std::prev(after)->second;
}

DRIVER cuInit(unsigned) { return SUCCESS; }
DRIVER cuDeviceGet(int *found, int number) {
    *found = 0;
    return number == 0 ? SUCCESS : INVALID_DEVICE;
}
DRIVER cuDeviceGetCount(int *count) {
    *count = 1;
    return SUCCESS;
}
// Compute capability 9.0 by its two numbers; yes to everything else.
DRIVER cuDeviceGetAttribute(int *value, int attribute, int) {
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 1;
    return SUCCESS;
}
DRIVER cuDevicePrimaryCtxRetain(void **retained, int) {
    *retained = new char;
    return SUCCESS;
}
DRIVER cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
DRIVER cuCtxSetCurrent(void *other) {
    context = other;
    return SUCCESS;
}
DRIVER cuCtxGetCurrent(void **current) {
    *current = context;
    return SUCCESS;
}
DRIVER cuCtxSynchronize() { return device.lost ? ILLEGAL_ADDRESS : SUCCESS; }
DRIVER cuStreamCreate(void **stream, unsigned) { return give(stream); }
DRIVER cuStreamDestroy_v2(void *) { return SUCCESS; }
DRIVER cuStreamSynchronize(void *) { return device.lost ? ILLEGAL_ADDRESS : SUCCESS; }
DRIVER cuEventCreate(void **event, unsigned) { return give(event); }
DRIVER cuEventDestroy_v2(void *) { return SUCCESS; }
DRIVER cuEventRecord(void *, void *) { return SUCCESS; }
DRIVER cuStreamWaitEvent(void *, void *, unsigned) { return SUCCESS; }
DRIVER cuDeviceGetDefaultMemPool(void **pool, int) { return give(pool); }
DRIVER cuMemPoolSetAttribute(void *, int, void *) { return SUCCESS; }
DRIVER cuMemAllocAsync(void **address, size_t size, void *) { return allocate(address, size); }
DRIVER cuMemFreeAsync(void *address, void *) { return release(address); }
DRIVER cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t size, void *) {
    return copy(to, from, size, true, false);
}
DRIVER cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t size, void *) {
    return copy(to, from, size, false, true);
}
DRIVER cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t size, void *) {
    return copy(to, from, size, true, true);
}
DRIVER cuMemsetD8Async(void *to, unsigned char value, size_t size, void *) {
    const std::string bytes(size, char(value));
    return copy(to, bytes.data(), size, true, false);
}
DRIVER cuGetErrorName(int error, const char **name) {
    *name = error == OUT_OF_MEMORY     ? "CUDA_ERROR_OUT_OF_MEMORY"
            : error == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS"
                                       : "CUDA_ERROR";
    return SUCCESS;
}
DRIVER cuGetErrorString(int error, const char **text) { return cuGetErrorName(error, text); }
DRIVER cuModuleLoadData(void **module, const void *text) {
    const std::lock_guard lock(device.mutex);
    const auto loaded = new Module(context, static_cast<const char *>(text));
    device.modules.insert(*loaded);
    *module = loaded;
    return SUCCESS;
}
// Who has loaded a module twice and drops one may drop the one whose kernel a GPU is at.
DRIVER cuModuleUnload(void *module) {
    const std::lock_guard lock(device.mutex);
    const Module &unloaded = *static_cast<Module *>(module);
    if (device.modules.count(unloaded) > 1)
        fail("a module that was loaded twice is unloaded");
    device.modules.erase(unloaded);
    return SUCCESS;
}
DRIVER cuModuleGetFunction(void **function, void *module, const char *name) {
    const std::lock_guard lock(device.mutex);
    const auto [found, fresh] = device.kernels.try_emplace({module, name});
    if (fresh)
        found->second = parse(static_cast<Module *>(module)->second, name);
    *function = &found->second;
    return SUCCESS;
}
DRIVER cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned x, unsigned y,
                      unsigned z, unsigned dynamic_shared, void *, void **arguments, void **) {
    const std::lock_guard lock(device.mutex);
    device.lost = device.lost || device.launches_left-- == 0;
    if (device.lost)
        return ILLEGAL_ADDRESS;
    const uint64_t threads = uint64_t(x) * y * z, blocks = uint64_t(grid_x) * grid_y * grid_z;
    if (threads == 0 || threads > 1024 || blocks == 0 || grid_y > 65535 || grid_z > 65535)
        return INVALID_VALUE;
    const Kernel &kernel = *static_cast<const Kernel *>(function);
    std::vector<uint8_t> parameters(kernel.parameter_bytes);
    for (size_t i = 0; i < kernel.parameters.size(); i++)
        std::memcpy(parameters.data() + kernel.parameters[i].offset, arguments[i], kernel.parameters[i].size);
    run(kernel, parameters, {grid_x, grid_y, grid_z}, {x, y, z}, dynamic_shared);
    return SUCCESS;
}
