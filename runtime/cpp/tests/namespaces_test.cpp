// A C++ program may be linked with the library's own objects: what the header for C++ defines is not what the core
// calls by the same names.
#include "src/api/handles.h"

#include "ldm_runtime.hpp"  // after the core, whose headers would find both

#include "tests/kit.h"

namespace {

void both_kinds_of_run_are_in_one_program() {
    ldm::Context context;
    auto package = ldm::Package::open(context, golden_path("package").c_str());
    if (!CHECK(package.has_value())) return;
    ldm::abi_1::RunOptions options;
    *options.operator->() = apple();
    auto run = ldm::abi_1::Run::create(context, *package, options);
    ldm::abi_1::Task task;
    CHECK(run && run->next(context, task) == LDM_OK && task.kind == LDM_TASK_EVALUATE);
    auto& of_the_core = run->get()->run;
    static_assert(!std::is_same_v<decltype(of_the_core), ldm::abi_1::Run&>);
    CHECK(of_the_core.is_asking() && of_the_core.steps_done() == 0);
}

}  // namespace

int main() {
    both_kinds_of_run_are_in_one_program();
    return done();
}
