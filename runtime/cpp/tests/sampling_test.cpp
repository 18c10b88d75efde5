// Schedules, samplers and plans: every plan, text and schedule of the conformance kit.
#include <algorithm>
#include <cmath>
#include <string>

#include "core/codes.h"
#include "core/sampling/plan.h"
#include "tests/check.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"

using namespace ldm;
using namespace ldm::sampling;
using json::Value;

static constexpr double tolerance = 1e-12;  // relative to the largest number of a matrix

static Allocator heap = system_allocator();
static double furthest = 0.0;  // of all numbers that were compared
static long compared = 0;

static bool is_near(double value, double expected, double largest) {
    double away = std::fabs(value - expected) / std::max(largest, 1e-300);
    ++compared;
    furthest = std::max(furthest, away);
    return away <= tolerance;
}

static bool is_near(double value, const Value& expected) {
    return is_near(value, expected.real, std::max(std::fabs(expected.real), 1.0));
}

// The code that a Python runtime gives, and this one.
static bool same_code(Status status, const Value* code) {
    std::string_view expected = code == nullptr ? "" : code->text;
    return expected == (status.ok() ? "" : status.code());
}

static Status read_schedule(Scope& scope, Arena& arena, const Value& value, Schedule& out) {
    json::Reader reader{scope, arena};
    json::Where where("schedule");
    return read(reader, value, where, out);
}

static void schedules_are_read(const Value& cases) {
    for (const Value& each : cases.items) {
        Failure failure;
        Scope scope{heap, failure};
        Arena arena(heap);
        Schedule schedule;
        Status status = read_schedule(scope, arena, *each.find("schedule"), schedule);
        if (!CHECK(same_code(status, each.find("code")))) {
            std::fprintf(stderr, "  schedule %td: %s\n", &each - cases.items.begin(),
                         status.ok() ? "accepted" : failure.text);
        }
    }
}

static void texts_are_read(const Value& cases) {
    for (const Value& each : cases.items) {
        Failure failure;
        Scope scope{heap, failure};
        Sampler sampler;
        std::string_view text = each.find("text")->text;
        Status status = read_sampler(scope, text, sampler);
        const Value& canonical = *each.find("canonical");
        bool as_expected = canonical.kind == json::Kind::text
                               ? status.ok() && sampler.canonical().view() == canonical.text
                               : !status.ok() && std::string_view(status.code()) == codes::request_sampler;
        if (!CHECK(as_expected)) {
            std::string spelt(status.ok() ? sampler.canonical().view() : failure.text);
            std::fprintf(stderr, "  %.*s: %s\n", static_cast<int>(text.size()), text.data(), spelt.c_str());
        }
    }
}

static Status compile(Scope& scope, Arena& arena, const Value& schedule, const Value& example, Plan& out) {
    auto* kept = arena.make<Schedule>();
    LDM_NEED(scope, kept != nullptr);
    LDM_TRY(read_schedule(scope, arena, schedule, *kept));
    Sampler sampler;
    LDM_TRY(read_sampler(scope, example.find("sampler")->text, sampler));
    return compile_plan(scope, arena, *kept, sampler, example.find("steps")->integer, example.find("start")->integer,
                        out);
}

static bool same_row(const PlanRow& row, const Value& expected) {
    const Value &matrix = *expected.find("matrix"), &noise_rows = *expected.find("noise_rows");
    const Value &levels = *expected.find("levels"), &data = *expected.find("data");
    bool same =
        is_near(row.timestep, *expected.find("timestep")) && is_near(row.input_scale, *expected.find("input_scale"));
    same = same && is_near(row.alpha, levels.items[0]) && is_near(row.sigma, levels.items[1]);
    same = same && is_near(row.alpha_next, levels.items[2]) && is_near(row.sigma_next, levels.items[3]);
    same = same && is_near(row.data_x, data.items[0]) && is_near(row.data_output, data.items[1]);
    same = same && row.ends_step == expected.find("ends_step")->boolean && row.lines() == matrix.items.size;
    same = same && row.noise_rows.size() == noise_rows.items.size;
    for (std::size_t each = 0; same && each < row.noise_rows.size(); ++each) {
        same = row.noise_rows[each] == static_cast<std::size_t>(noise_rows.items[each].integer);
    }
    double largest = 0.0;
    for (double number : row.matrix) largest = std::max(largest, std::fabs(number));
    for (std::size_t line = 0; same && line < row.lines(); ++line) {
        same = row.columns == matrix.items[line].items.size;
        for (std::size_t column = 0; same && column < row.columns; ++column) {
            same = is_near(row.line(line)[column], matrix.items[line].items[column].real, largest);
        }
    }
    return same;
}

static bool same_hook(const std::optional<Hook>& hook, const Value& expected) {
    if (!hook || expected.kind == json::Kind::null) return !hook && expected.kind == json::Kind::null;
    return (expected.find("kind")->text == "clip") == (hook->kind == Hook::Kind::clip) &&
           hook->limit == expected.find("limit")->real && hook->ratio == expected.find("ratio")->real;
}

static void told(const char* what, const Value& example, const Failure& failure) {
    std::string_view sampler = example.find("sampler")->text, schedule = example.find("schedule")->text;
    std::fprintf(stderr, "  %s: %.*s, %.*s, %lld steps from %lld: %s\n", what, static_cast<int>(sampler.size()),
                 sampler.data(), static_cast<int>(schedule.size()), schedule.data(),
                 static_cast<long long>(example.find("steps")->integer),
                 static_cast<long long>(example.find("start")->integer), failure.text);
}

static void plans_are_equal(const Value& kit) {
    for (const Value& each : kit.find("cases")->items) {
        Failure failure;
        Scope scope{heap, failure};
        Arena arena(heap);
        Plan plan;
        const Value& schedule = *kit.find("schedules")->find(each.find("schedule")->text);
        const Value& expected = *each.find("plan");
        bool same = compile(scope, arena, schedule, each, plan).ok() &&
                    plan.identity.hex().view() == expected.find("identity")->text &&
                    plan.sampler.canonical().view() == expected.find("sampler")->text &&
                    plan.history == static_cast<std::size_t>(expected.find("history")->integer) &&
                    is_near(plan.initial_scale, *expected.find("initial_scale")) &&
                    same_hook(plan.hook, *expected.find("hook")) && plan.rows.size == expected.find("rows")->items.size;
        for (std::size_t row = 0; same && row < plan.rows.size; ++row) {
            same = same_row(plan.rows[row], expected.find("rows")->items[row]);
        }
        if (!CHECK(same)) told("another plan", each, failure);
    }
}

static bool same_weighed(const PlanRow& row, const Value& expected) {
    bool same = row.lines() + 1 == expected.items.size && is_near(row.timestep, expected.items[0]);
    double largest = 0.0;
    for (double number : row.matrix) largest = std::max(largest, std::fabs(number));
    for (std::size_t line = 0; same && line < row.lines(); ++line) {
        double sum = 0.0;
        for (std::size_t column = 0; column < row.columns; ++column) {
            sum += row.line(line)[column] / static_cast<double>(1 + column);
        }
        same = is_near(sum, expected.items[line + 1].real, largest);
    }
    return same;
}

// Plans of 1 to 50 steps, and the codes of those that no sampler has.
static void many_steps_are_equal(const Value& schedules, const Value& cases) {
    for (const Value& each : cases.items) {
        Failure failure;
        Scope scope{heap, failure};
        Arena arena(heap);
        Plan plan;
        Status status = compile(scope, arena, *schedules.find(each.find("schedule")->text), each, plan);
        bool same = same_code(status, each.find("code"));
        if (status.ok()) {
            same = same && plan.identity.hex().view() == each.find("identity")->text;
            same = same && is_near(plan.initial_scale, *each.find("initial_scale"));
            same = same && plan.rows.size == each.find("rows")->items.size;
            for (std::size_t row = 0; same && row < plan.rows.size; ++row) {
                same = same_weighed(plan.rows[row], each.find("rows")->items[row]);
            }
        }
        if (!CHECK(same)) told(status.ok() ? "another plan" : status.code(), each, failure);
    }
}

// What check_steps refuses is what has no plan, from the first step on.
static void steps_are_checked(const Value& schedules, const Value& cases) {
    for (const Value& each : cases.items) {
        if (each.find("start")->integer != 0) continue;
        Failure failure;
        Scope scope{heap, failure};
        Arena arena(heap);
        Schedule schedule;
        Sampler sampler;
        CHECK(read_schedule(scope, arena, *schedules.find(each.find("schedule")->text), schedule).ok());
        CHECK(read_sampler(scope, each.find("sampler")->text, sampler).ok());
        Status status = check_steps(scope, schedule, sampler, each.find("steps")->integer);
        if (!CHECK(same_code(status, each.find("code")))) told("steps", each, failure);
    }
}

static void a_strength_is_reached() {
    Failure failure;
    Scope scope{heap, failure};
    Sampler sampler;
    bool reached = true;
    CHECK(read_sampler(scope, "lcm", sampler).ok() && sampler.reach(scope, 0.5, reached).ok() && !reached);
    CHECK(read_sampler(scope, "lcm:reach=1", sampler).ok() && sampler.reach(scope, 0.5, reached).ok() && reached);
    CHECK(sampler.canonical().view() == "lcm:reach=0.5");
    Status status = sampler.reach(scope, 0.01, reached);
    CHECK(!status.ok() && std::string_view(status.code()) == codes::request_invalid);
    CHECK(std::string_view(failure.text) == "strength 0.01 of 50 original steps leaves none; use at least 0.02");
}

static void refusals_are_sentences() {
    Failure failure;
    Scope scope{heap, failure};
    Sampler sampler;
    CHECK(!read_sampler(scope, "unipc:order=5", sampler).ok());
    CHECK(std::string_view(failure.text) == "sampler 'unipc': order is '5', expected an integer from 1 to 4");
    CHECK(!read_sampler(scope, "heun:sigmas=ays", sampler).ok());
    CHECK(std::string_view(failure.text) ==
          "sampler 'heun': sigmas is 'ays', expected one of default, karras, exponential, beta");
    CHECK(!read_sampler(scope, "heun:order=2", sampler).ok());
    CHECK(std::string_view(failure.text) ==
          "sampler 'heun': 'order=2' is none of its options; expected clip=…, sigmas=…");
}

static void memory_may_run_out(const Value& kit) {
    for (const char* text : {"ddim", "heun:clip=1", "dpmsolver:sigmas=ays", "sa_solver", "plms", "tcd"}) {
        check_every_allocation(text, [&](Scope& scope) {
            Arena arena(scope.memory);
            Schedule schedule;
            Sampler sampler;
            Plan plan;
            LDM_TRY(read_schedule(scope, arena, *kit.find("schedules")->find("sd15"), schedule));
            LDM_TRY(read_sampler(scope, text, sampler));
            LDM_TRY(check_steps(scope, schedule, sampler, 20));
            return compile_plan(scope, arena, schedule, sampler, 20, 0, plan);
        });
    }
}

int main() {
    GoldenJson plans("plans.json"), samplers("samplers.json");
    const Value& schedules = *plans.value.find("schedules");
    schedules_are_read(*samplers.value.find("schedules"));
    texts_are_read(*samplers.value.find("texts"));
    plans_are_equal(plans.value);
    many_steps_are_equal(schedules, *samplers.value.find("plans"));
    steps_are_checked(schedules, *samplers.value.find("plans"));
    a_strength_is_reached();
    refusals_are_sentences();
    memory_may_run_out(plans.value);
    std::printf("%ld numbers of plans: at most %.2g from the kit\n", compared, furthest);
    return done();
}
