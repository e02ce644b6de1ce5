// Entry of the one xterm.js bundle: the terminal, the addon that fits it to its box, and a document that keeps to a
// Content-Security-Policy without 'unsafe-inline'.
export { Terminal } from "./lib/xterm.mjs";
export { FitAddon } from "@xterm/addon-fit";

/** `document` for Terminal's documentOverride. Its <style> elements write into constructed style sheets and its spans set
    `style` through the CSSOM: both are what the policy allows a script of this site, other than the parsed attribute. */
export function strictDocument() {
  return new Proxy(document, {
    get(target, name) {
      if (name === "createElement") return create;
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
    set: (target, name, value) => Reflect.set(target, name, value, target),
  });
}

function create(tag) {
  if (tag === "style") return sheetElement();
  const element = document.createElement(tag);
  if (tag === "span") element.setAttribute = setAttribute;
  return element;
}

function setAttribute(name, value) {
  if (name === "style") this.style.cssText = value;
  else Element.prototype.setAttribute.call(this, name, value);
}

/** Stands where the <style> would: inert, and its text is the sheet's. */
function sheetElement() {
  const element = document.createElement("template");
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  Object.defineProperty(element, "textContent", { get: () => "", set: (text) => sheet.replaceSync(text) });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}
