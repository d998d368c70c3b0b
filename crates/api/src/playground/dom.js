/** The element with this id. */
export const $ = (id) => document.getElementById(id);

/** What happens when something happens to the element with this id. */
export const on = (id, kind, act) => $(id).addEventListener(kind, act);

/** An element. Children that are strings become text nodes: nothing here is ever read as markup. */
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  const { dataset = {}, ...rest } = properties;
  for (const [key, value] of Object.entries(rest)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

/** Makes an attribute present with a value, or absent. */
export function setData(element, name, value) {
  if (value === undefined || value === null || value === false) delete element.dataset[name];
  else if (element.dataset[name] !== String(value)) element.dataset[name] = value;
}
