// Memory that many have the use of, one after another, each for a span of its own.
//
// A SharedBuffer owns the memory, which it makes when it is first asked for. A Loan is the use of it. While that lasts
// nobody else gets this memory: who asks meanwhile, from inside of a callback for example, gets other memory. So what
// is in it stays for as long as the Loan does, whatever code runs. Loop thread only.
#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <utility>

namespace zloop {

// What buffers are made of: where the kernel copies to from the beginning of one, 256 KiB take 4 % less time.
struct alignas(64) CacheLine {
  std::array<char, 64> bytes;
};

class SharedBuffer {
 public:
  // `size`: bytes, a multiple of CacheLine's.
  explicit SharedBuffer(std::size_t size) noexcept : size_(size) {}
  ~SharedBuffer();  // nothing is on loan
  SharedBuffer(const SharedBuffer&) = delete;
  SharedBuffer& operator=(const SharedBuffer&) = delete;

  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  friend class Loan;

  // nullptr when memory is out.
  CacheLine* lend() noexcept {
    CacheLine* memory = std::exchange(spare_, nullptr);
    if (memory == nullptr) return make();
    clear_spoilage(memory);
    return memory;
  }

  void take_back(CacheLine* memory) noexcept {
    spoil(memory);
    if (spare_ != nullptr) discard(spare_);  // two were on loan
    spare_ = memory;
  }

  [[nodiscard]] CacheLine* make() const noexcept;
  static void discard(CacheLine* memory) noexcept;

  // In a debug build what has been given back is overwritten, and forbidden where a sanitizer watches: who reads it
  // afterwards is found out.
#ifdef NDEBUG
  void spoil(CacheLine* /*memory*/) const noexcept {}
  void clear_spoilage(CacheLine* /*memory*/) const noexcept {}
#else
  void spoil(CacheLine* memory) const noexcept;
  void clear_spoilage(CacheLine* memory) const noexcept;
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

  // Memory of the lender's size, for as long as this object is there or until end(); nullptr when memory is out. The
  // lender is to outlive that.
  char* begin(SharedBuffer& lender) noexcept {
    assert(memory_ == nullptr);
    lender_ = &lender;
    memory_ = lender.lend();
    return data();
  }

  // Harmless where there is no loan.
  void end() noexcept {
    if (memory_ != nullptr) lender_->take_back(std::exchange(memory_, nullptr));
  }

  [[nodiscard]] char* data() const noexcept { return memory_ == nullptr ? nullptr : memory_->bytes.data(); }

 private:
  SharedBuffer* lender_ = nullptr;  // borrowed
  CacheLine* memory_ = nullptr;     // borrowed, until end()
};

}  // namespace zloop
