// Makes allocations fail where a test says so. The tests' operator new serves everything in the process.
#pragma once

namespace zloop::test {

// While it lives, this thread's allocations fail but for the first `allowed` ones.
class FailingAllocations {
 public:
  explicit FailingAllocations(int allowed = 0) noexcept;
  ~FailingAllocations();
  FailingAllocations(const FailingAllocations&) = delete;
  FailingAllocations& operator=(const FailingAllocations&) = delete;
};

// What call() returns, or throws, when only the first `allowed` of its allocations succeed. Assertions allocate, so
// none belongs inside.
template <typename Call>
auto with_allocations(int allowed, Call call) {
  const FailingAllocations failing(allowed);
  return call();
}

}  // namespace zloop::test
