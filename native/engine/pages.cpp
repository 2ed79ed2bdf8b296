// Lists of pages: taken, shared, copied before they are written, and taken again.
#include <new>

#include "cache.h"

namespace s7 {

PageList::~PageList() {
    keep(0);
    while (waiting_ != nullptr) delete take();
}

bool PageList::make(i64 n_pages, i64 n_bytes) {
    page_bytes_ = n_bytes;
    return pages_.make(n_pages) && bytes_.make(n_pages);
}

void PageList::wait(Page *page) {
    page->next = waiting_;
    waiting_ = page;
    ++n_waiting_;
}

Page *PageList::take() {
    Page *page = waiting_;
    waiting_ = page->next;
    --n_waiting_;
    return page;
}

void PageList::release(Page *page) {
    if (page->n_holders.fetch_sub(1, std::memory_order_acq_rel) == 1) delete page;
}

bool PageList::reserve(i64 written, i64 end, i64 n_live) {
    const bool is_shared = first_ <= written && written < end_ &&
                           pages_.get()[written]->n_holders.load(std::memory_order_acquire) > 1;
    const i64 wanted = least(most(end - end_, i64{0}), n_live) + (is_shared ? 1 : 0);
    while (n_waiting_ < wanted) {
        auto *page = new (std::nothrow) Page;
        if (page == nullptr || !page->bytes.make(page_bytes_)) {
            delete page;
            return false;
        }
        wait(page);
    }
    // One more may wait, so that a sequence that goes on step by step allocates nothing.
    while (n_waiting_ > wanted + 1) delete take();
    if (!is_shared) return true;
    Page *own = take();
    std::memcpy(own->bytes.get(), bytes_.get()[written], static_cast<size_t>(page_bytes_));
    release(pages_.get()[written]);
    pages_.get()[written] = own;
    bytes_.get()[written] = own->bytes.get();
    return true;
}

void PageList::extend(i64 end) {
    for (; end_ < end; ++end_) {
        Page *page = take();
        pages_.get()[end_] = page;
        bytes_.get()[end_] = page->bytes.get();
    }
}

void PageList::drop_before(i64 first) {
    for (; first_ < least(first, end_); ++first_) {
        Page *page = pages_.get()[first_];
        if (page->n_holders.load(std::memory_order_acquire) == 1) {
            wait(page);
        } else {
            release(page);
        }
    }
}

void PageList::keep(i64 n) {
    for (; end_ > most(n, first_); --end_) release(pages_.get()[end_ - 1]);
}

void PageList::begin_at(i64 page) {
    keep(0);
    first_ = end_ = page;
}

void PageList::share(const PageList &from, i64 n) {
    first_ = end_ = from.first_;
    for (; end_ < least(n, from.end_); ++end_) {
        Page *page = from.pages_.get()[end_];
        page->n_holders.fetch_add(1, std::memory_order_relaxed);
        pages_.get()[end_] = page;
        bytes_.get()[end_] = page->bytes.get();
    }
}

}  // namespace s7
