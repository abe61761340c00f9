// The settings of requests: read from the dialog, kept in the browser, and written into requests.

import { getJson } from "./api.js";
import { byId, element, toast } from "./dom.js";
import { loadKey, loadSettings, saveKey, saveSettings } from "./store.js";

const NUMBERS = ["temperature", "top_p", "top_k", "max_tokens", "seed"];
/** What each number must look like; the server knows its range. */
const SHAPES = { temperature: /^\d+(\.\d+)?$/, top_p: /^\d+(\.\d+)?$/, top_k: /^\d+$/, max_tokens: /^\d+$/, seed: /^\d+$/ };

let settings = loadSettings();

export const model = () => byId("model").value;

/** The fields of a request besides its messages. */
export function requestFields() {
  const fields = {};
  if (model()) fields.model = model();
  for (const name of NUMBERS) if (SHAPES[name].test(settings[name] ?? "")) fields[name] = Number(settings[name]);
  return fields;
}

export function systemMessages() {
  return settings.system?.trim() ? [{ role: "system", content: settings.system }] : [];
}

export async function loadModels() {
  const select = byId("model");
  try {
    const { data } = await getJson("v1/models", AbortSignal.timeout(10_000));
    select.replaceChildren(...data.map(({ id }) => element("option", { value: id }, [id])));
    if (data.some(({ id }) => id === settings.model)) select.value = settings.model;
    select.disabled = data.length < 2;
  } catch (error) {
    if (error.status === 401) openSettings("key");
    else toast(error.message);
  }
}

export function openSettings(name) {
  const dialog = byId("settings");
  const { elements } = dialog.querySelector("form");
  for (const field of elements) {
    if (field.name) field.value = field.name === "key" ? loadKey() : settings[field.name] ?? "";
    check(field);
  }
  if (!dialog.open) dialog.showModal();
  if (name) elements[name].focus();
}

function check(field) {
  const shape = SHAPES[field.name];
  if (!shape) return;
  const value = field.value.trim();
  field.setCustomValidity(value === "" || shape.test(value) ? "" : "This must be a number.");
  field.setAttribute("aria-invalid", String(!field.validity.valid));
}

/** Connects the dialog and the choice of the model. `changed` is called after the model or the key changed. */
export function connectSettings(changed) {
  const dialog = byId("settings");
  byId("open-settings").onclick = () => openSettings();
  dialog.addEventListener("input", ({ target }) => {
    check(target);
    if (target.name === "key") saveKey(target.value.trim());
    else if (target.name) settings[target.name] = target.value.slice(0, 100_000).trim();
    saveSettings(settings);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", async () => {
    if (byId("model").options.length === 0) await loadModels();
    changed();
  });
  byId("model").addEventListener("change", () => {
    settings = { ...settings, model: model() };
    saveSettings(settings);
    changed();
  });
}
