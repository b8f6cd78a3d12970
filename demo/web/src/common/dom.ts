/** The element of this id; an error where the page has none. */
export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) {
    throw new Error(`the page has no element '${id}'`);
  }
  return found as T;
}
