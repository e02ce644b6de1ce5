// Entry of the one xterm.js bundle: the terminal, the addon that fits it to its box, and what lets both live under a
// Content-Security-Policy without 'unsafe-inline'.
export { Terminal } from "./lib/xterm.mjs";
export { FitAddon } from "@xterm/addon-fit";

/** From now on, on this page: a <style> that a script makes writes into a constructed style sheet, and a span sets `style`
    through the CSSOM. The policy allows a script of this site both, other than the parsed text. (xterm's documentOverride
    would do for one terminal, but 6.0.0 passes it by in its viewport: a precedence slip in CoreBrowserTerminal.open.) */
export function strictStyles() {
  document.createElement = create;
}

function create(tag, options) {
  const plain = (name) => Document.prototype.createElement.call(document, name, options);
  if (tag === "style") return sheetElement(plain("template"));
  const element = plain(tag);
  if (tag === "span") element.setAttribute = setAttribute;
  return element;
}

function setAttribute(name, value) {
  if (name === "style") this.style.cssText = value;
  else Element.prototype.setAttribute.call(this, name, value);
}

/** `element` stands where the <style> would: inert, and its text is a sheet's. */
function sheetElement(element) {
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  Object.defineProperty(element, "textContent", { get: () => "", set: (text) => sheet.replaceSync(text) });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}
