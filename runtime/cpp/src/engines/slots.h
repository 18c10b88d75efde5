// The engines of a package that are open, one for each component, and how many threads are at each.
#ifndef LDM_ENGINES_SLOTS_H
#define LDM_ENGINES_SLOTS_H

#include <mutex>

#include "core/memory.h"
#include "src/engines/engine.h"

namespace ldm::engines {

// To close an engine may take long: nobody waits for it but who closes. Threads may call everything but `make` and
// `close_all`.
class Slots {
public:
    // As many slots, all closed, in an arena that outlives this. False where no memory is left.
    [[nodiscard]] bool make(Arena& arena, std::size_t count);
    // Count a user of a slot's engine; false where none is open.
    bool use(std::size_t place);
    // Open a closed slot, for one user.
    void open(std::size_t place, const Engine& engine);
    // The engine of a slot, for its users.
    const Engine& engine(std::size_t place) const { return slots_[place].engine; }
    // Count a user less.
    void release(std::size_t place);
    // Close an engine that maps its weights, once it has no user; others stay open.
    void rest(std::size_t place);
    // There are no users any more.
    void close_all();

private:
    struct Slot {
        Engine engine;
        std::size_t users = 0;
        bool is_open = false;
        bool rests = false;  // once it has no user
    };

    Engine taken_if_idle(Slot& slot);

    Slot* slots_ = nullptr;
    std::size_t count_ = 0;
    std::mutex state_;
};

}  // namespace ldm::engines

#endif
