// A list whose members bring their own links: joining takes no memory and cannot fail, leaving takes no search.
//
// A ListHook is a base, or a part, of what is listed, and leaves the list by itself when that goes. The list owns none;
// whether a membership stands for a reference is the business of whoever adds and removes. Loop thread only.
#pragma once

#include <cassert>

namespace zloop {

class HookList;

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

  ListHook* next_ = nullptr;  // a ring through HookList::head_; null when in no list
  ListHook* previous_ = nullptr;
};

class HookList {
 public:
  HookList() noexcept { head_.next_ = head_.previous_ = &head_; }
  // Its members are in no list then.
  ~HookList() {
    while (!empty()) front().leave();
    head_.next_ = head_.previous_ = nullptr;
  }
  HookList(const HookList&) = delete;
  HookList& operator=(const HookList&) = delete;

  [[nodiscard]] bool empty() const noexcept { return head_.next_ == &head_; }

  // Adds a hook that is in no list, at the end.
  void add(ListHook& hook) noexcept {
    assert(!hook.linked());
    hook.previous_ = head_.previous_;
    hook.next_ = &head_;
    head_.previous_->next_ = &hook;
    head_.previous_ = &hook;
  }

  // The list must not be empty.
  [[nodiscard]] ListHook& front() const noexcept {
    assert(!empty());
    return *head_.next_;
  }

  // Calls visit(hook) for each, in order, until one returns non-zero. The list must not change meanwhile.
  template <typename Visit>
  int for_each(Visit visit) const {
    for (ListHook* hook = head_.next_; hook != &head_; hook = hook->next_) {
      if (const int stop = visit(*hook)) return stop;
    }
    return 0;
  }

 private:
  ListHook head_;
};

// The hook of an object that cannot derive from it, and its list.
class OwnedHook : private ListHook {
 public:
  using ListHook::leave;
  using ListHook::linked;

 private:
  friend class OwnerList;

  void* owner_ = nullptr;  // borrowed: the embedder
};

class OwnerList {
 public:
  [[nodiscard]] bool empty() const noexcept { return hooks_.empty(); }

  // Adds the owner of a hook that is in no list, at the end.
  void add(OwnedHook& hook, void* owner) noexcept {
    hook.owner_ = owner;
    hooks_.add(hook);
  }

  // Takes the first one out and returns it. The list must not be empty.
  void* pop_front() noexcept {
    ListHook& first = hooks_.front();
    first.leave();
    return owner_of(first);
  }

  // Calls visit(owner) for each, in order, until one returns non-zero. The list must not change meanwhile.
  template <typename Visit>
  int for_each(Visit visit) const {
    return hooks_.for_each([&visit](ListHook& hook) { return visit(owner_of(hook)); });
  }

 private:
  // NOLINTNEXTLINE(*-static-cast-downcast): add() takes no others
  static void* owner_of(ListHook& hook) noexcept { return static_cast<OwnedHook&>(hook).owner_; }

  HookList hooks_;
};

}  // namespace zloop
