#include "src/verify/describe.h"

#include "core/codes.h"
#include "core/package/contract_fields.h"
#include "core/package/variant_fields.h"
#include "core/text/words.h"
#include "src/verify/proven_contract.h"
#include "src/verify/report.h"

namespace ldm::verify {

namespace {

using json::Value;

// An object of JSON that grows.
class Object {
public:
    Object(Scope& scope, Arena& arena) : scope_(scope), arena_(arena), members_(scope.memory) {}

    template <typename T>
    Status add(std::string_view key, const T& value) {
        json::Reader reader{scope_, arena_};
        Value plain_value;
        LDM_TRY(plain(reader, value, plain_value));
        return add_value(key, plain_value);
    }
    template <typename T>  // with all of its fields
    Status add_whole(std::string_view key, const T& value) {
        json::Reader reader{scope_, arena_};
        Value whole;
        LDM_TRY(json::plain_whole(reader, value, whole));
        return add_value(key, whole);
    }
    Status add_value(std::string_view key, const Value& value) {
        json::Member member;
        member.key = key;
        member.value = value;
        LDM_NEED(scope_, members_.push(member));
        return Status();
    }
    Status add_object(std::string_view key, const Object& other) {
        Value value;
        LDM_TRY(other.finish(value));
        return add_value(key, value);
    }
    Status finish(Value& out) const {
        out = Value();
        out.kind = json::Kind::object;
        LDM_NEED(scope_, arena_.copy(members_.data(), members_.size(), out.members));
        return Status();
    }

private:
    Scope& scope_;
    Arena& arena_;
    Array<json::Member> members_;
};

class Description {
public:
    Description(Scope& scope, Arena& arena, package::Package& package)
        : scope_(scope),
          arena_(arena),
          package_(package),
          manifest_(package.manifest()),
          contract_(manifest_.contract) {}

    Status make(Value& out) {
        Object all(scope_, arena_);
        std::int64_t bytes = 0;
        for (const auto& entry : manifest_.files) bytes += entry.value.size;
        LDM_TRY(all.add("kind", std::string_view("package")));
        LDM_TRY(all.add("path", package_.path().view()));
        LDM_TRY(all.add("name", manifest_.name));
        LDM_TRY(all.add("identity", package_.identity()));
        LDM_TRY(all.add("size_bytes", bytes));
        LDM_TRY(all.add("files", static_cast<std::int64_t>(manifest_.files.size())));
        LDM_TRY(all.add("image", contract_.image));
        LDM_TRY(all.add("latent", contract_.latent));
        LDM_TRY(all.add("schedule", contract_.schedule));
        LDM_TRY(all.add("defaults", contract_.defaults));
        LDM_TRY(add_text(all));
        LDM_TRY(add_axes(all));
        LDM_TRY(add_components(all));
        if (!manifest_.variants.empty()) LDM_TRY(add_variants(all));
        LDM_TRY(all.add("dropped", manifest_.dropped));
        LDM_TRY(add_provenance(all));
        LDM_TRY(add_proof(all));
        return all.finish(out);
    }

private:
    Status add_text(Object& all) {
        Object roles(scope_, arena_);
        for (const TextRole& text : contract_.text) LDM_TRY(roles.add(text.component, text.tokenizer));
        return all.add_object("text", roles);
    }

    Status add_axes(Object& all) {
        Object axes(scope_, arena_);
        for (const auto& [name, axis] : contract_.axes) {
            const std::int64_t range[] = {axis.min, axis.max};
            LDM_TRY(axes.add(name, View<std::int64_t>{range, 2}));
        }
        return all.add_object("axes", axes);
    }

    Status add_components(Object& all) {
        Object components(scope_, arena_);
        for (const auto& [name, component] : manifest_.components) {
            const ComponentContract& tensors = *contract_.components.find(name);
            Object its(scope_, arena_), artefacts(scope_, arena_), weights(scope_, arena_);
            LDM_TRY(add_tensors(its, "inputs", tensors.inputs));
            LDM_TRY(add_tensors(its, "outputs", tensors.outputs));
            for (const package::Weights::OfType& each : package_.weights(name).types) {
                if (each.dtype.empty()) break;
                LDM_TRY(weights.add(each.dtype, static_cast<std::int64_t>(each.values)));
            }
            LDM_TRY(its.add_object("weights", weights));
            LDM_TRY(its.add("weights_bytes", manifest_.files.find(component.weights)->size));
            for (const Artefact& artefact : component.artefacts) LDM_TRY(add_artefact(artefacts, artefact));
            LDM_TRY(its.add_object("artefacts", artefacts));
            LDM_TRY(components.add_object(name, its));
        }
        return all.add_object("components", components);
    }

    Status add_tensors(Object& its, std::string_view key, const Tensors& tensors) {
        Array<std::string_view> lines(scope_.memory);
        for (const TensorSpec& spec : tensors) {
            Words words(scope_.memory);
            words.add(spec.name, " ", spec.dtype, " [");
            for (std::size_t index = 0; index < spec.dims.size; ++index) {
                const Dim& dim = spec.dims[index];
                words.add(index == 0 ? "" : ", ");
                if (dim.is_named) {
                    words.add(dim.axis);
                } else {
                    words.add(dim.size);
                }
            }
            std::string_view line;
            LDM_TRY(words.add("]").keep(scope_, arena_, line));
            LDM_NEED(scope_, lines.push(line));
        }
        return its.add(key, lines.view());
    }

    Status add_artefact(Object& artefacts, const Artefact& artefact) {
        Object its(scope_, arena_);
        LDM_TRY(its.add("format", artefact.format));
        LDM_TRY(its.add("file", artefact.file()));
        LDM_TRY(its.add("engine", artefact.engine));
        LDM_TRY(its.add("precision", name_of(artefact.precision)));
        LDM_TRY(its.add("exactness", name_of(artefact.exactness)));
        if (artefact.difference) LDM_TRY(its.add("relative_rms", artefact.difference->relative_rms));
        if (artefact.interface_) {
            LDM_TRY(add_tensors(its, "inputs", artefact.interface_->inputs));
            LDM_TRY(add_tensors(its, "outputs", artefact.interface_->outputs));
        }
        if (!artefact.kept.empty()) LDM_TRY(its.add("kept", artefact.kept));
        if (artefact.rescaled) LDM_TRY(its.add("rescaled", *artefact.rescaled));
        if (artefact.merged) LDM_TRY(its.add("merged", *artefact.merged));
        if (artefact.requires_) LDM_TRY(add_requirements(its, *artefact.requires_));
        return artefacts.add_object(artefact.name, its);
    }

    Status add_variants(Object& all) {
        Object variants(scope_, arena_);
        for (const Variant& variant : manifest_.variants) {
            Object its(scope_, arena_);
            LDM_TRY(its.add("methods", variant.methods));
            LDM_TRY(its.add("ways", variant.ways));
            LDM_TRY(its.add("run", variant.run));
            LDM_TRY(its.add("error", variant.error));
            LDM_TRY(its.add("time", variant.time));
            LDM_TRY(its.add("bytes", variant.bytes));
            LDM_TRY(variants.add_object(variant.name, its));
        }
        return all.add_object("variants", variants);
    }

    Status add_requirements(Object& artefact, const PlanRequirements& plan) {
        Object its(scope_, arena_);
        Array<Value> profiles(scope_.memory);
        Array<std::string_view> options(scope_.memory);
        for (PlanOption option : plan.options) LDM_NEED(scope_, options.push(name_of(option)));
        for (const json::Map<Range>& profile : plan.profiles) {
            Object axes(scope_, arena_);
            Value value;
            for (const auto& [axis, size] : profile) {
                const std::int64_t sizes[] = {size.min, size.opt, size.max};
                LDM_TRY(axes.add(axis, View<std::int64_t>{sizes, 3}));
            }
            LDM_TRY(axes.finish(value));
            LDM_NEED(scope_, profiles.push(value));
        }
        Value list;
        list.kind = json::Kind::list;
        LDM_NEED(scope_, arena_.copy(profiles.data(), profiles.size(), list.items));
        LDM_TRY(its.add("flavour", name_of(plan.flavour)));
        LDM_TRY(its.add("version", plan.version));
        LDM_TRY(its.add("compute_capabilities", plan.compute_capabilities));
        LDM_TRY(its.add("options", options.view()));
        LDM_TRY(its.add("activation_bytes", plan.activation_bytes));
        LDM_TRY(its.add("weight_bytes", plan.weight_bytes));
        LDM_TRY(its.add_value("profiles", list));
        return artefact.add_object("requires", its);
    }

    Status add_provenance(Object& all) {
        Object its(scope_, arena_);
        LDM_TRY(its.add("source", manifest_.provenance.source.name));
        LDM_TRY(its.add("tools", manifest_.provenance.tools));
        LDM_TRY(its.add("opset", manifest_.provenance.opset));
        LDM_TRY(its.add("created_with", manifest_.provenance.created_with));
        return all.add_object("provenance", its);
    }

    Status add_proof(Object& all) {
        Object its(scope_, arena_);
        std::string_view problem = "the package has not passed verification";
        if (manifest_.proof.passed) LDM_TRY(find_unproven(problem));
        LDM_TRY(its.add("passed", problem.empty()));
        if (!problem.empty()) LDM_TRY(its.add("problem", problem));
        for (const auto& [name, figures] : manifest_.proof.summary) {
            if (problem.empty()) LDM_TRY(its.add_value(name, *figures));
        }
        return all.add_object("proof", its);
    }

    // Why the proof is not one of this contract; "" if it is.
    Status find_unproven(std::string_view& out) {
        Report build;
        ProvenContract current;
        Status status = recorded(scope_, arena_, package_, build);
        if (!status.ok()) {
            if (status.code() == std::string_view(codes::other_memory)) return status;
            LDM_TRY(Words(scope_.memory).add(std::string_view(scope_.failure.text)).keep(scope_, arena_, out));
            scope_.failure.clear();
            return Status();
        }
        Array<Change> changes(scope_.memory);
        LDM_TRY(proven_contract(scope_, arena_, contract_, current));
        LDM_TRY(list_changes(scope_, arena_, build.contract, current, changes));
        out = "";
        if (changes.empty()) return Status();
        Words words(scope_.memory);
        words.add("changed since it was proven: ");
        for (const Change& change : changes) words.add(change.name == changes[0].name ? "" : ", ", change.name);
        return words.keep(scope_, arena_, out);
    }

    Scope& scope_;
    Arena& arena_;
    package::Package& package_;
    const Manifest& manifest_;
    const Contract& contract_;
};

// Indented text for a terminal, a line for each value.
class Lines {
public:
    explicit Lines(Words& words) : words_(words) {}

    void add(const Value& object, std::size_t depth) {
        for (const json::Member& member : object.members) {
            if (!words_.view().empty()) words_.add("\n");
            for (std::size_t level = 0; level < depth; ++level) words_.add("  ");
            words_.add(member.key, ":");
            if (is_nested(member.value)) {
                add(member.value, depth + 1);
            } else {
                words_.add(" ");
                add_inline(member.value);
            }
        }
    }

private:
    static bool is_nested(const Value& value) {
        for (const json::Member& member : value.members) {
            if (member.value.kind == json::Kind::object || member.value.kind == json::Kind::list) return true;
        }
        return false;
    }

    void add_inline(const Value& value) {
        bool is_first = true;
        for (const json::Member& member : value.members) {
            words_.add(is_first ? "" : ", ", member.key, " ");
            add_inline(member.value);
            is_first = false;
        }
        for (const Value& item : value.items) {
            words_.add(is_first ? "" : "; ");
            add_inline(item);
            is_first = false;
        }
        switch (value.kind) {
            case json::Kind::null: words_.add("none"); break;
            case json::Kind::boolean: words_.add(value.boolean ? "True" : "False"); break;
            case json::Kind::integer: words_.grouped(value.integer); break;
            case json::Kind::real: words_.general(value.real, 6); break;
            case json::Kind::text: words_.add(value.text); break;
            case json::Kind::list: words_.add(value.items.empty() ? "none" : ""); break;
            case json::Kind::object: break;
        }
    }

    Words& words_;
};

}  // namespace

Status describe(Scope& scope, package::Package& package, bool as_json, Array<char>& out) {
    LDM_TRY(package.confirm(scope));
    Arena arena(scope.memory);
    Value value;
    LDM_TRY(Description(scope, arena, package).make(value));
    Words words(scope.memory), shown(scope.memory);
    if (as_json) {
        constexpr json::Style style{true, false, false, 2};
        shown.json(value, style);
    } else {
        Lines(words).add(value, 0);
        shown.printable(words.view());
    }
    out.shrink(0);
    LDM_NEED(scope, words.fits() && shown.fits());
    LDM_NEED(scope, out.append(shown.view().data(), shown.view().size()) && out.push('\0'));
    return Status();
}

}  // namespace ldm::verify
