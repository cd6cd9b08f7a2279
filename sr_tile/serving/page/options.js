// What is to be done with the pictures: what for, how large, how strongly, and how it is saved.

const $ = (id) => document.getElementById(id);
const KEY = "sr-tile-settings";
const upper = (text) => text[0].toUpperCase() + text.slice(1);
const times = (scale) => (scale === 1 ? "same size" : `${scale}×`);

let groups = []; // models of one purpose, by scale
let before = []; // models that leave the size alone and can go first

/** Offer what the server has; `changed` is told of each change. */
export function offer({ models, formats }, changed) {
  const byPurpose = new Map();
  for (const model of models) {
    const purpose = model.purpose ?? model.name;
    byPurpose.set(purpose, [...(byPurpose.get(purpose) ?? []), model]);
  }
  groups = [...byPurpose].map(([purpose, members]) => ({ purpose, models: members.sort((a, b) => a.scale - b.scale) }));
  groups.sort((a, b) => b.models.some((model) => model.default) - a.models.some((model) => model.default));
  before = models.filter((model) => model.scale === 1);
  groups.forEach((group, index) => $("purposes").append(card(group, index)));
  $("purposes").hidden = groups.length < 2;
  for (const format of formats) $("format").append(new Option({ webp: "WebP" }[format] ?? format.toUpperCase(), format));
  for (const model of before) $("first").append(new Option(model.purpose ?? model.name, model.name));
  restore();
  $("options").addEventListener("input", (event) => {
    if (event.target.name === "purpose") sizes();
    if (event.target.name === "measure") number();
    show();
    sessionStorage.setItem(KEY, JSON.stringify(Object.fromEntries(new FormData($("options")))));
    changed();
  });
}

function radio(name, value, checked) {
  return Object.assign(document.createElement("input"), { type: "radio", name, value, checked });
}

function card({ purpose, models }, index) {
  const label = document.createElement("label");
  const [title, line] = [document.createElement("strong"), document.createElement("small")];
  const does = models.map((model) => (`${model.name}: ${times(model.scale)}`)).join(", ");
  title.textContent = upper(purpose);
  line.textContent = does;
  label.append(radio("purpose", index, index === 0), title, line);
  return label;
}

const group = () => groups[Number(new FormData($("options")).get("purpose"))];
const most = (models) => models[models.length - 1].scale;

/** The sizes that the models of a purpose reach by themselves, and any other. */
function sizes() {
  const { models } = group();
  const kept = new FormData($("options")).get("size");
  const scales = [...new Set(models.map((model) => model.scale))];
  const preferred = models.find((model) => model.default)?.scale ?? scales[0];
  const chosen = kept === "other" || scales.includes(Number(kept)) ? kept : String(preferred);
  const made = [...scales.map((scale) => [String(scale), upper(times(scale))]), ["other", "Other"]].map(([value, text]) => {
    const label = document.createElement("label");
    label.append(radio("size", value, value === chosen), text);
    return label;
  });
  $("sizes").replaceChildren($("sizes").querySelector("legend"), ...made);
  number();
}

function number() {
  const isScale = $("measure").value === "scale";
  const largest = most(group().models);
  Object.assign($("number"), isScale ? { min: 0.1, max: largest, step: 0.1 } : { min: 1, max: 100000, step: 1 });
  const value = Number($("number").value);
  if (isScale ? !(value > 0 && value <= largest) : !(value > largest)) $("number").value = isScale ? Math.min(largest, 1.5) : 1920;
  $("number").setAttribute("aria-label", { scale: "Times as large", height: "Height in pixels" }[$("measure").value] ?? "Width in pixels");
}

function show() {
  const values = new FormData($("options"));
  const enlarges = most(group().models) > 1;
  $("other").hidden = values.get("size") !== "other";
  $("by").hidden = $("box").hidden = $("measure").value !== "fit";
  for (const field of [$("measure"), $("number")]) field.disabled = $("other").hidden;
  $("box").disabled = $("other").hidden || $("box").hidden;
  $("share").textContent = `${$("strength").value} %`;
  $("quality-label").hidden = $("quality").disabled = !["jpeg", "webp", "avif"].includes($("format").value);
  $("first-label").hidden = $("first").disabled = !enlarges || !before.length;
  $("grain-label").hidden = $("grain").disabled = enlarges;
  $("edges").disabled = Boolean(values.get("first"));
}

function restore() {
  const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "{}");
  const fill = (names) => {
    for (const name of names) {
      for (const field of $("options").querySelectorAll(`[name="${name}"]`)) {
        if (["radio", "checkbox"].includes(field.type)) field.checked = field.value === kept[name];
        else if (field.type !== "select-one" || [...field.options].some(({ value }) => value === kept[name])) field.value = kept[name];
      }
    }
  };
  if (Number(kept.purpose) < groups.length) fill(["purpose"]);
  sizes();
  if ([...$("sizes").querySelectorAll("input")].some(({ value }) => value === kept.size)) fill(["size"]);
  fill(Object.keys(kept).filter((name) => !["purpose", "size"].includes(name)));
  number();
  show();
}

/**
 * What is chosen, for one picture: options as the server wants to hear them, and the same in words.
 * @param {{width, height} | null} picture its size, where the browser knows it.
 */
export function chosen(picture) {
  const values = Object.fromEntries(new FormData($("options")));
  const { models } = group();
  const options = size(values, models, picture);
  const words = [options.words, options.model];
  delete options.words;
  if (values.first) {
    options.model = `${values.first},${options.model}`;
    words.splice(1, 0, values.first);
  }
  const say = (name, value, text) => {
    options[name] = value;
    words.push(text);
  };
  if (values.strength !== "100") say("strength", values.strength / 100, `strength ${values.strength} %`);
  if (values.precision) say("precision", values.precision, "exact");
  if (values.edges) say("edges", values.edges, { wrap: "seamless", mirror: "mirrored" }[values.edges] ?? "repeated edge");
  if (Number(values.grain)) say("keep_grain", values.grain / 100, `grain ${values.grain} %`);
  if (values.tta) say("tta", true, "eight turns");
  if (values.format) say("format", values.format, $("format").selectedOptions[0].text);
  if (values.quality && values.quality !== "95") say("quality", values.quality, `quality ${values.quality}`);
  return { options, label: words.join(", ") };
}

/** The size, and the model of the least scale that reaches it; the largest where the picture's size is not known. */
function size(values, models, picture) {
  const reaching = (factor) => (models.find((model) => model.scale >= factor) ?? models[models.length - 1]).name;
  if (values.size !== "other") return { model: reaching(Number(values.size)), words: times(Number(values.size)) };
  const wanted = Number(values.number);
  if (values.measure === "scale") return { model: reaching(wanted), scale: wanted, words: times(wanted) };
  const by = { width: wanted / picture?.width, height: wanted / picture?.height };
  by.fit = Math.min(by.width, values.box / picture?.height);
  const text = { width: `${wanted} wide`, height: `${wanted} high`, fit: `${wanted} × ${values.box}` }[values.measure];
  const value = values.measure === "fit" ? `${wanted}x${values.box}` : wanted;
  return { model: reaching(picture ? by[values.measure] : Infinity), [values.measure]: value, words: text };
}
