// The sampling loop: its arithmetic against the conformance kit, its walk against matrices multiplied in float64.
#include "core/sampling/loop.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/codes.h"
#include "core/noise/philox.h"
#include "core/sampling/arithmetic.h"
#include "tests/check.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"

using namespace ldm;
using namespace ldm::sampling;
using json::Value;
using Tensor = std::vector<float>;

static Allocator heap = system_allocator();

static double furthest(View<float> values, const float* expected) {
    double away = 0.0;
    for (std::size_t i = 0; i < values.size; ++i) {
        away = std::max(away, std::fabs(double(values[i]) - double(expected[i])));
    }
    return away;
}

static void guidance_is_equal() {
    GoldenJson cases("guidance.json");
    GoldenTensors tensors("guidance.safetensors");
    View<float> uncond = tensors.tensor<float>("uncond"), cond = tensors.tensor<float>("cond");
    for (const Value& each : cases.value.items) {
        double scale = each.find("scale")->real, rescale = each.find("rescale")->real;
        Tensor out(uncond.size), within(uncond.data, uncond.data + uncond.size);
        guide(uncond.data, cond.data, scale, rescale, 2, uncond.size / 2, out.data());
        guide(within.data(), cond.data, scale, rescale, 2, uncond.size / 2, within.data());
        View<float> expected = tensors.tensor<float>(each.find("tensor")->text);
        CHECK(furthest(expected, out.data()) <= 2e-6);
        CHECK(out == within);
    }
}

static Tensor numbers_of(const Value& value) {
    Tensor out;
    for (const Value& each : value.items) {
        Tensor inner = each.kind == json::Kind::list ? numbers_of(each) : Tensor{static_cast<float>(each.real)};
        out.insert(out.end(), inner.begin(), inner.end());
    }
    return out;
}

static void hooks_are_equal() {
    GoldenJson kit("samplers.json");
    for (const Value& each : kit.value.find("hooks")->items) {
        Hook hook{each.find("kind")->text == "clip" ? Hook::Kind::clip : Hook::Kind::threshold,
                  each.find("limit")->real, each.find("ratio")->real};
        Tensor data = numbers_of(*each.find("x0")), expected = numbers_of(*each.find("clipped")), scratch(data.size());
        clip(hook, 2, data.size() / 2, data.data(), scratch.data());
        CHECK(furthest({data.data(), data.size()}, expected.data()) <= 1e-7);
    }
    Tensor data{1.0f, std::numeric_limits<float>::quiet_NaN(), 3.0f, 4.0f}, scratch(4);
    clip({Hook::Kind::threshold, 2.0, 0.5}, 2, 2, data.data(), scratch.data());
    CHECK(std::isnan(data[0]) && std::isnan(data[1]) && data[2] == 1.0f && data[3] == 1.0f);
}

static void slerps_are_equal() {
    GoldenJson cases("noise.json");
    GoldenTensors tensors("noise.safetensors");
    Tensor first(64), second(64), out(64);
    philox_normal(1, 0, first.data(), 64);
    philox_normal(2, 0, second.data(), 64);
    int count = 0;
    for (const Value& each : cases.value.items) {
        if (each.find("mode")->text != "slerp") continue;
        slerp(first.data(), second.data(), each.find("share")->real, 64, out.data());
        CHECK(furthest(tensors.tensor<float>(each.find("tensor")->text), out.data()) <= 1e-6);
        ++count;
    }
    CHECK(count == 3);
    slerp(first.data(), first.data(), 0.3, 64, out.data());  // no arc between them
    CHECK(furthest({out.data(), 64}, first.data()) <= 1e-6);
}

// Numbers that a seed gives, between -1 and 1.
static Tensor drawn(unsigned seed, std::size_t count) {
    Tensor out(count);
    for (float& number : out) {
        seed = seed * 1664525u + 1013904223u;
        number = static_cast<float>(seed >> 8) / 8388608.0f - 1.0f;
    }
    return out;
}

// A model: some of its input, and numbers of its own for each row.
static float modelled(float input, float own) { return 0.3f * input + own; }

// x0, clipped by the plan's hook.
static std::vector<double> clipped(const Plan& plan, const PlanRow& row, const std::vector<double>& x,
                                   const std::vector<double>& output) {
    Tensor data, scratch(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) data.push_back(float(row.data_x * x[i] + row.data_output * output[i]));
    clip(*plan.hook, 2, data.size() / 2, data.data(), scratch.data());
    return {data.begin(), data.end()};
}

// Walk a plan in float64, by whole matrices.
static std::vector<double> walked(const Plan& plan, const Tensor& noise, const Tensor* image, const Tensor* mask) {
    std::size_t size = noise.size();
    std::vector<std::vector<double>> state(1 + plan.history, std::vector<double>(size));
    auto noised_at = [&](const PlanRow& row, std::size_t i) {
        return (row.alpha * double((*image)[i]) + row.sigma * double(noise[i])) / row.input_scale;
    };
    for (std::size_t i = 0; i < size; ++i) {
        state[0][i] = image == nullptr ? plan.initial_scale * double(noise[i]) : noised_at(plan.rows[0], i);
    }
    for (std::size_t index = 0; index < plan.rows.size; ++index) {
        const PlanRow& row = plan.rows[index];
        auto columns = state;
        Tensor own = drawn(unsigned(index) + 7, size);
        std::vector<double> output;
        for (std::size_t i = 0; i < size; ++i) output.push_back(0.3 * row.input_scale * state[0][i] + double(own[i]));
        columns.push_back(output);
        if (plan.hook) columns.push_back(clipped(plan, row, state[0], output));
        for (std::size_t each : row.noise_rows) {
            Tensor read = drawn(unsigned(each) + 1000, size);
            columns.emplace_back(read.begin(), read.end());
        }
        CHECK(columns.size() == row.columns && state.size() == row.lines());
        for (std::size_t line = 0; line < state.size(); ++line) {
            std::fill(state[line].begin(), state[line].end(), 0.0);
            for (std::size_t column = 0; column < row.columns; ++column) {
                for (std::size_t i = 0; i < size; ++i) state[line][i] += row.line(line)[column] * columns[column][i];
            }
        }
        for (std::size_t i = 0; mask != nullptr && i < size; ++i) {
            bool is_last = index + 1 == plan.rows.size;
            double kept = is_last ? double((*image)[i]) : noised_at(plan.rows[index + 1], i);
            double share = double((*mask)[i % mask->size()]);
            state[0][i] = (1.0 - share) * kept + share * state[0][i];
        }
    }
    return state[0];
}

static Status run(Scope& scope, const Plan& plan, const Tensor& noise, const Tensor* image, const Tensor* mask,
                  Loop& loop) {
    std::size_t size = noise.size();
    LDM_TRY(loop.begin(scope, plan, {2, size / 2, noise.data(), image == nullptr ? nullptr : image->data()}));
    if (mask != nullptr) loop.keep({mask->data(), mask->size(), image->data(), noise.data()});
    while (!loop.is_done()) {
        Tensor input(size), own = drawn(unsigned(loop.evaluations()) + 7, size), noises[2];
        loop.read_input(input.data());
        for (std::size_t i = 0; i < size; ++i) loop.output()[i] = modelled(input[i], own[i]);
        const float* read[2] = {};
        for (std::size_t each = 0; each < loop.row().noise_rows.size(); ++each) {
            noises[each] = drawn(unsigned(loop.row().noise_rows[each]) + 1000, size);
            read[each] = noises[each].data();
        }
        Tensor x(loop.latents(), loop.latents() + size), output(loop.output(), loop.output() + size), predicted(size);
        const PlanRow& row = loop.row();
        LDM_TRY(loop.advance(scope, read));
        loop.predict(predicted.data());
        bool is_predicted = true;
        for (std::size_t i = 0; i < size; ++i) {
            double of_x = row.data_x * double(x[i]), of_output = row.data_output * double(output[i]);
            double away = std::fabs(double(predicted[i]) - (of_x + of_output));
            is_predicted = is_predicted && away <= 1e-6 * (std::fabs(of_x) + std::fabs(of_output));
        }
        CHECK(is_predicted);
    }
    CHECK(loop.steps_done() == static_cast<std::size_t>(plan.taken()) && loop.evaluations() == plan.rows.size);
    return Status();
}

static Status plan_of(Scope& scope, Arena& arena, const Value& schedule, std::string_view text, std::int64_t steps,
                      std::int64_t start, Plan& out) {
    Schedule its;
    Sampler sampler;
    json::Reader reader{scope, arena};
    json::Where where("schedule");
    LDM_TRY(read(reader, schedule, where, its));
    LDM_TRY(read_sampler(scope, text, sampler));
    return compile_plan(scope, arena, its, sampler, steps, start, out);
}

static double relative_rms(const float* values, const std::vector<double>& expected) {
    double away = 0.0, whole = 0.0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        away += std::pow(double(values[i]) - expected[i], 2.0);
        whole += std::pow(expected[i], 2.0);
    }
    return std::sqrt(away / whole);
}

// Every plan of the kit: from noise, from an image, inpainting.
static void plans_are_walked() {
    GoldenJson kit("plans.json");
    Tensor noise = drawn(1, 48), image = drawn(2, 48), mask{0.0f, 1.0f, 0.25f, 1.0f, 0.0f, 0.5f};
    int count = 0;
    for (const Value& each : kit.value.find("cases")->items) {
        Failure failure;
        Scope scope{heap, failure};
        Arena arena(heap);
        Plan plan;
        std::string_view text = each.find("sampler")->text;
        const Value& schedule = *kit.value.find("schedules")->find(each.find("schedule")->text);
        CHECK(
            plan_of(scope, arena, schedule, text, each.find("steps")->integer, each.find("start")->integer, plan).ok());
        for (int task = 0; task < 3; ++task) {
            const Tensor *from = task == 0 ? nullptr : &image, *over = task == 2 ? &mask : nullptr;
            Loop loop(heap);
            bool same = run(scope, plan, noise, from, over, loop).ok() &&
                        relative_rms(loop.latents(), walked(plan, noise, from, over)) <= 1e-5;
            if (!CHECK(same)) {
                std::fprintf(stderr, "  %.*s, task %d: %s\n", int(text.size()), text.data(), task, failure.text);
            }
        }
        ++count;
    }
    CHECK(count == 386);
}

static void what_is_not_finite_is_refused() {
    GoldenJson kit("plans.json");
    Failure failure;
    Scope scope{heap, failure};
    Arena arena(heap);
    Plan plan;
    CHECK(plan_of(scope, arena, *kit.value.find("schedules")->find("sd15"), "ddim", 5, 0, plan).ok());
    Tensor noise = drawn(1, 48);
    Loop loop(heap);
    CHECK(loop.begin(scope, plan, {2, 24, noise.data()}).ok());
    std::fill(loop.output(), loop.output() + 48, 0.5f);
    CHECK(loop.advance(scope, nullptr).ok() && loop.steps_done() == 1);
    std::fill(loop.output(), loop.output() + 48, 0.5f);
    loop.output()[47] = std::numeric_limits<float>::infinity();
    Status status = loop.advance(scope, nullptr);
    CHECK(!status.ok() && std::string_view(status.code()) == codes::result_not_finite);
    CHECK(std::string_view(failure.text) ==
          "the model output at step 2 of 5 (timestep 601) holds NaN or infinity; no image is made of it");
    noise[3] = std::numeric_limits<float>::quiet_NaN();
    Loop another(heap);
    CHECK(std::string_view(another.begin(scope, plan, {2, 24, noise.data()}).code()) == codes::result_not_finite);
}

static void memory_may_run_out() {
    GoldenJson kit("plans.json");
    Tensor noise = drawn(1, 48);
    check_every_allocation("a run", [&](Scope& scope) {
        Arena arena(scope.memory);
        Plan plan;
        LDM_TRY(plan_of(scope, arena, *kit.value.find("schedules")->find("v"), "unipc", 3, 0, plan));
        Loop loop(scope.memory);
        return run(scope, plan, noise, nullptr, nullptr, loop);
    });
}

int main() {
    guidance_is_equal();
    hooks_are_equal();
    slerps_are_equal();
    plans_are_walked();
    what_is_not_finite_is_refused();
    memory_may_run_out();
    return done();
}
