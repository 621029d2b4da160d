// A list whose members bring their own links: joining takes no memory and cannot fail, leaving takes no search.
//
// A ListHook is embedded in the object that it stands for, its owner, and leaves the list by itself when that goes. The
// list owns neither; whether a membership stands for a reference is the business of whoever adds and removes.
// Loop thread only.
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
  void* owner_ = nullptr;  // borrowed: the embedder
};

class HookList {
 public:
  HookList() noexcept { head_.next_ = head_.previous_ = &head_; }
  // Its members are in no list then.
  ~HookList() {
    while (!empty()) head_.next_->leave();
    head_.next_ = head_.previous_ = nullptr;
  }
  HookList(const HookList&) = delete;
  HookList& operator=(const HookList&) = delete;

  [[nodiscard]] bool empty() const noexcept { return head_.next_ == &head_; }

  // Adds a hook that is in no list, at the end.
  void add(ListHook& hook, void* owner) noexcept {
    assert(!hook.linked());
    hook.owner_ = owner;
    hook.previous_ = head_.previous_;
    hook.next_ = &head_;
    head_.previous_->next_ = &hook;
    head_.previous_ = &hook;
  }

  // Takes the first one out and returns its owner. The list must not be empty.
  void* pop_front() noexcept {
    assert(!empty());
    ListHook& first = *head_.next_;
    first.leave();
    return first.owner_;
  }

  // Calls visit(owner) for each, in order, until one returns non-zero. The list must not change meanwhile.
  template <typename Visit>
  int for_each(Visit visit) const {
    for (const ListHook* hook = head_.next_; hook != &head_; hook = hook->next_) {
      if (const int stop = visit(hook->owner_)) return stop;
    }
    return 0;
  }

 private:
  ListHook head_;
};

}  // namespace zloop
