// A doubly linked intrusive list: the members embed their links. Adding a member allocates no memory and cannot fail;
// removing one needs no search.
//
// Owns nothing. Each member embeds a ListHook, at the same offset in all members of one list; the hook leaves the list
// when it is destroyed. Whether the list holds references to its members is decided by the code that adds and removes
// them. Loop thread only.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>

namespace zloop {

class ListHook {
 public:
  ListHook() = default;
  ~ListHook() { leave(); }
  ListHook(const ListHook&) = delete;
  ListHook& operator=(const ListHook&) = delete;

  [[nodiscard]] bool linked() const noexcept { return next_ != nullptr; }

  // Harmless when not linked.
  void leave() noexcept {
    if (!linked()) return;
    previous_->next_ = next_;
    next_->previous_ = previous_;
    next_ = previous_ = nullptr;
  }

 private:
  friend class HookList;

  ListHook* next_ = nullptr;  // borrowed; a ring through HookList::head_; null when in no list
  ListHook* previous_ = nullptr;
};

class HookList {
 public:
  HookList() noexcept { head_.next_ = head_.previous_ = &head_; }
  // Unlinks the members.
  ~HookList() {
    while (!empty()) head_.next_->leave();
    head_.next_ = head_.previous_ = nullptr;
  }
  HookList(const HookList&) = delete;
  HookList& operator=(const HookList&) = delete;

  [[nodiscard]] bool empty() const noexcept { return head_.next_ == &head_; }

  // Appends `member`, which embeds `hook`. The hook must not be in a list.
  void add(ListHook& hook, void* member) noexcept {
    assert(!hook.linked());
    const std::size_t offset = reinterpret_cast<std::uintptr_t>(&hook) - reinterpret_cast<std::uintptr_t>(member);
    assert(empty() || offset == hook_offset_);
    hook_offset_ = offset;
    hook.previous_ = head_.previous_;
    hook.next_ = &head_;
    head_.previous_->next_ = &hook;
    head_.previous_ = &hook;
  }

  // Removes the first member and returns it. The list must not be empty.
  void* pop_front() noexcept {
    assert(!empty());
    ListHook* first = head_.next_;
    first->leave();
    return member_of(first);
  }

  // Calls visit(member) for each member, in order, until one call returns non-zero. The list must not change meanwhile.
  template <typename Visit>
  int for_each(Visit visit) const {
    for (ListHook* hook = head_.next_; hook != &head_; hook = hook->next_) {
      if (const int stop = visit(member_of(hook))) return stop;
    }
    return 0;
  }

 private:
  [[nodiscard]] void* member_of(ListHook* hook) const noexcept { return reinterpret_cast<char*>(hook) - hook_offset_; }

  ListHook head_;
  std::size_t hook_offset_ = 0;  // of the hook in each member, in bytes
};

}  // namespace zloop
