#include "src/verify/facts.h"

#include <algorithm>

#include "core/codes.h"
#include "core/package/contract_fields.h"
#include "core/text/prompt.h"
#include "core/text/utf8.h"
#include "core/text/words.h"
#include "src/verify/proven_contract.h"

namespace ldm::verify {

namespace {

class Facts {
public:
    Facts(Scope& scope, Arena& arena, const Model& model, Reference& reference, Array<FactResult>& out)
        : scope_(scope), arena_(arena), contract_(model.contract()), model_(model), reference_(reference), out_(out) {}

    // What torch computed with, beside the manifest's contract.
    Status compare_computed_with() {
        const ComputedWith& facts = reference_.facts();
        LDM_TRY(compare_group("latent", facts.latent, contract_.latent));
        LDM_TRY(compare_schedule(facts.schedule));
        LDM_TRY(compare_group("defaults", facts.defaults, contract_.defaults));
        for (std::size_t index = 0; index < contract_.text.size; ++index) {
            const TextRole& text = contract_.text[index];
            Words group(scope_.memory);
            group.add("text[", index, "].tokenizer");
            LDM_TRY(compare_group(group.view(), *facts.tokenizers.find(text.component), text.tokenizer));
        }
        return Status();
    }

    // The sizes that the manifest calls proven, beside those of the reference's cases.
    Status compare_proven_sizes() {
        json::Reader reader{scope_, arena_};
        for (const auto& [name, axis] : contract_.axes) {
            Array<std::int64_t> sizes(scope_.memory);
            if (model_.manifest->proof.passed) LDM_TRY(list_sizes(name, sizes));
            json::Value expected, found;
            LDM_TRY(json::plain(reader, sizes.view(), expected));
            LDM_TRY(json::plain(reader, axis.proven, found));
            LDM_TRY(add_value(Words(scope_.memory).add("contract.axes.", name, ".proven"), expected, &found));
        }
        return Status();
    }

    // Every value that differs from the contract that was proven and is not named yet, then the digest.
    Status compare_contract(const ProvenContract& proven, const ProvenContract& current) {
        Array<Change> changes(scope_.memory);
        LDM_TRY(list_changes(scope_, arena_, proven, current, changes));
        std::size_t named = out_.size();
        for (const Change& change : changes) {
            bool is_named = std::any_of(out_.data(), out_.data() + named, [&](const FactResult& fact) {
                return !fact.passed && fact.name == change.name;
            });
            if (!is_named) LDM_NEED(scope_, out_.push({change.name, change.before, change.now, false}));
        }
        bool passed = current.sha256 == proven.sha256;
        LDM_NEED(scope_, out_.push({"contract's SHA-256", proven.sha256, current.sha256, passed}));
        return Status();
    }

    // The ids of prompts on which tokenizers go wrong.
    Status compare_tokens() {
        Loaded expected(scope_.memory);
        for (std::size_t index = 0; index < contract_.text.size; ++index) {
            const TextRole& text = contract_.text[index];
            LDM_TRY(reference_.read(scope_, reference_.tokens(reference_.facts().tokenizers.place_of(text.component)),
                                    expected));
            for (std::size_t prompt = 0; prompt < reference_.prompts().size; ++prompt) {
                LDM_TRY(compare_row(model_.tokenizers[index], text.tokenizer, prompt, expected));
            }
        }
        return Status();
    }

    // Refuse tensors of the reference that the contract does not have.
    Status require_known() {
        for (const Case& each : reference_.cases()) {
            for (const Stored& stored : each.inputs) LDM_TRY(require_known(each, stored));
            for (const Stored& stored : each.outputs) LDM_TRY(require_known(each, stored));
        }
        return Status();
    }

private:
    template <typename Group>
    Status compare_group(std::string_view name, const Group& expected, const Group& found) {
        json::Reader reader{scope_, arena_};
        json::Value before, now;
        LDM_TRY(json::plain_whole(reader, expected, before));
        LDM_TRY(json::plain_whole(reader, found, now));
        return add_members(name, before, now);
    }

    Status compare_schedule(const sampling::Schedule& expected) {
        json::Reader reader{scope_, arena_};
        json::Value before, now;
        LDM_TRY(plain(reader, expected, before));
        LDM_TRY(plain(reader, contract_.schedule, now));
        return add_members("schedule", before, now);
    }

    Status add_members(std::string_view group, const json::Value& expected, const json::Value& found) {
        for (const json::Member& member : expected.members) {
            Words name(scope_.memory);
            LDM_TRY(add_value(name.add("contract.", group, ".", member.key), member.value, found.find(member.key)));
        }
        return Status();
    }

    // found: null where there is none.
    Status add_value(const Words& name, const json::Value& expected, const json::Value* found) {
        FactResult fact;
        fact.found = "absent";
        fact.passed = found != nullptr && json::are_equal(expected, *found);
        LDM_TRY(name.keep(scope_, arena_, fact.name));
        LDM_TRY(json_text(scope_, arena_, expected, fact.expected));
        if (found != nullptr) LDM_TRY(json_text(scope_, arena_, *found, fact.found));
        LDM_NEED(scope_, out_.push(fact));
        return Status();
    }

    Status require_known(const Case& each, const Stored& stored) {
        const TensorSpec* spec = contract_.find_tensor(each.component, stored.name);
        if (spec != nullptr && spec->dims.size == stored.tensor->shape.size) return Status();
        return scope_.fail(codes::proof_invalid,
                           {"the reference has ", quoted(stored.tensor->name), " of ", stored.tensor->shape.size,
                            " dimensions, but the contract has ", spec == nullptr ? "no such tensor" : "others",
                            "; build the package again"});
    }

    // The sizes of an axis in all cases, each once, in order.
    Status list_sizes(std::string_view axis, Array<std::int64_t>& out) {
        auto add = [&](const Case& each, const Stored& stored) {
            View<Dim> dims = contract_.find_tensor(each.component, stored.name)->dims;
            for (std::size_t index = 0; index < dims.size; ++index) {
                if (!dims[index].is_named || dims[index].axis != axis) continue;
                if (!out.push(stored.tensor->shape[index])) return false;
            }
            return true;
        };
        for (const Case& each : reference_.cases()) {
            for (const Stored& stored : each.inputs) LDM_NEED(scope_, add(each, stored));
            for (const Stored& stored : each.outputs) LDM_NEED(scope_, add(each, stored));
        }
        std::sort(out.begin(), out.end());
        out.shrink(static_cast<std::size_t>(std::unique(out.begin(), out.end()) - out.begin()));
        return Status();
    }

    Status compare_row(const Tokenizer& tokenizer, const TokenizerFacts& facts, std::size_t prompt,
                       const Loaded& expected) {
        std::string_view text = reference_.prompts()[prompt];
        Arena scratch(scope_.memory);
        PromptWindows windows;
        LDM_TRY(prompt_windows(scope_, scratch, tokenizer, facts, text, "a prompt of the reference", Syntax::plain,
                               windows));
        auto length = static_cast<std::size_t>(expected.tensor.shape[1]);
        const auto* row = reinterpret_cast<const std::int64_t*>(expected.content.data()) + prompt * length;
        View<std::int32_t> ids = windows.windows[0].ids;
        FactResult fact;
        fact.passed = std::equal(ids.begin(), ids.end(), row, row + length);
        LDM_TRY(name_tokens(text, fact.name));
        LDM_TRY(spell_ids(row, length, fact.expected));
        LDM_TRY(spell_ids(ids.data, ids.size, fact.found));
        LDM_NEED(scope_, out_.push(fact));
        return Status();
    }

    Status name_tokens(std::string_view prompt, std::string_view& out) {
        constexpr std::size_t most = 40;  // characters
        Words words(scope_.memory);
        words.add("tokens of ");
        if (utf8::characters(prompt) > most) {
            Words cut(scope_.memory);
            cut.add(utf8::first_characters(prompt, most - 1), "…");
            LDM_NEED(scope_, cut.fits());
            words.repr(cut.view());
        } else {
            words.repr(prompt);
        }
        return words.keep(scope_, arena_, out);
    }

    // Token ids without the padding, which repeats the last one.
    template <typename Id>
    Status spell_ids(const Id* ids, std::size_t count, std::string_view& out) {
        std::size_t kept = count;
        while (kept > 1 && ids[kept - 1] == ids[kept - 2]) --kept;
        Words words(scope_.memory);
        words.add("[");
        for (std::size_t index = 0; index < kept; ++index) words.add(index == 0 ? "" : ", ", ids[index]);
        return words.add("] of ", count).keep(scope_, arena_, out);
    }

    Scope& scope_;
    Arena& arena_;
    const Contract& contract_;
    const Model& model_;
    Reference& reference_;
    Array<FactResult>& out_;
};

}  // namespace

Status compare_facts(Scope& scope, Arena& arena, const Model& model, Reference& reference, const ProvenContract& proven,
                     const ProvenContract& current, Array<FactResult>& out) {
    Facts facts(scope, arena, model, reference, out);
    LDM_TRY(facts.require_known());
    LDM_TRY(facts.compare_computed_with());
    LDM_TRY(facts.compare_proven_sizes());
    LDM_TRY(facts.compare_contract(proven, current));
    return facts.compare_tokens();
}

}  // namespace ldm::verify
