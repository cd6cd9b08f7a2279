// Scale, model, format and quality.

const $ = (id) => document.getElementById(id);

let served = [];

/** Offer what the server has. */
export function offer(models) {
  served = models;
  const preferred = models.find((model) => model.default) ?? models[0];
  const scales = [...new Set(models.map((model) => model.scale))].sort((a, b) => a - b);
  for (const scale of scales) {
    const input = Object.assign(document.createElement("input"), {
      type: "radio", name: "scale", value: scale, checked: scale === preferred.scale,
    });
    const label = document.createElement("label");
    label.append(input, `${scale}×`);
    $("scales").append(label);
  }
  $("scales").addEventListener("change", list);
  $("format").addEventListener("change", quality);
  list();
  quality();
}

function list() {
  const scale = Number($("scales").querySelector(":checked").value);
  const fitting = served.filter((model) => model.scale === scale);
  $("model").replaceChildren(...fitting.map((model) => new Option(model.name, model.name, model.default, model.default)));
  $("model").disabled = fitting.length < 2;
}

function quality() {
  $("quality-label").hidden = !["jpeg", "webp", "avif"].includes($("format").value);
}

/** What is chosen, as the server wants to hear it. */
export function chosen() {
  const wanted = { model: $("model").value, format: $("format").value };
  if (!$("quality-label").hidden) wanted.quality = $("quality").value;
  return wanted;
}
