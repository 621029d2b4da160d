// Makes memory allocations fail where a test requests it. The operator new of the tests serves the whole process.
#pragma once

namespace zloop::test {

// During its lifetime, this thread's allocations fail, except for the first `allowed` ones.
class FailingAllocations {
 public:
  explicit FailingAllocations(int allowed = 0) noexcept;
  ~FailingAllocations();
  FailingAllocations(const FailingAllocations&) = delete;
  FailingAllocations& operator=(const FailingAllocations&) = delete;
};

// Returns, or throws, what call() does if only the first `allowed` of its allocations succeed. Assertions allocate
// memory, so `call` must not contain any.
template <typename Call>
auto with_allocations(int allowed, Call call) {
  const FailingAllocations failing(allowed);
  return call();
}

}  // namespace zloop::test
