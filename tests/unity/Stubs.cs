// Stand-ins for what the Unity scripts use of Unity: enough to compile them, to run the receiver and to print joints.

using System;
using System.Collections;
using System.Collections.Generic;
using System.IO;
using System.Runtime.Serialization.Json;
using System.Text;

namespace UnityEngine
{
    public struct Vector3
    {
        public float x, y, z;
        public Vector3(float x, float y, float z) { this.x = x; this.y = y; this.z = z; }
        public static Vector3 one { get { return new Vector3(1, 1, 1); } }
        public static Vector3 operator +(Vector3 a, Vector3 b) { return new Vector3(a.x + b.x, a.y + b.y, a.z + b.z); }
        public static Vector3 operator *(Vector3 a, float k) { return new Vector3(k * a.x, k * a.y, k * a.z); }
    }

    public struct Quaternion
    {
        public float x, y, z, w;
        public Quaternion(float x, float y, float z, float w) { this.x = x; this.y = y; this.z = z; this.w = w; }
    }

    public struct Color
    {
        public Color(float r, float g, float b) { }
    }

    public struct Matrix4x4
    {
        public static Matrix4x4 TRS(Vector3 position, Quaternion rotation, Vector3 scale) { return new Matrix4x4(); }
        public Matrix4x4 inverse { get { return this; } }
        public static Matrix4x4 identity { get { return new Matrix4x4(); } }
    }

    public struct BoneWeight
    {
        public int boneIndex0 { get; set; }
        public int boneIndex1 { get; set; }
        public int boneIndex2 { get; set; }
        public int boneIndex3 { get; set; }
        public float weight0 { get; set; }
        public float weight1 { get; set; }
        public float weight2 { get; set; }
        public float weight3 { get; set; }
    }

    public class Object
    {
        public string name { get; set; }
    }

    public class Component : Object
    {
        public GameObject gameObject { get; set; }
        public Transform transform { get { return gameObject.transform; } }
        public T GetComponent<T>() where T : Component, new() { return gameObject.GetComponent<T>(); }
    }

    public class MonoBehaviour : Component { }

    public class Transform : Component
    {
        public Vector3 localPosition { get; set; }
        public Quaternion localRotation { get; set; }
        public Vector3 localScale { get; set; }
        public Vector3 position { get { return localPosition; } set { localPosition = value; } }
        public Transform parent { get; private set; }
        public void SetParent(Transform to, bool worldPositionStays) { parent = to; }
    }

    public enum PrimitiveType { Sphere }

    public class GameObject : Object
    {
        private readonly List<Component> components = new List<Component>();
        public Transform transform { get; private set; }
        public bool activeSelf { get; private set; }
        public GameObject(string name)
        {
            this.name = name;
            activeSelf = true;
            transform = new Transform { gameObject = this, name = name };
        }
        public static GameObject CreatePrimitive(PrimitiveType type) { return new GameObject(type.ToString()); }
        public void SetActive(bool active) { activeSelf = active; }
        public T AddComponent<T>() where T : Component, new()
        {
            T component = new T { gameObject = this };
            components.Add(component);
            return component;
        }
        public T GetComponent<T>() where T : Component, new()
        {
            return (T)components.Find(component => component is T);
        }
    }

    public class Material : Object
    {
        public Color color { get; set; }
    }

    public class Mesh : Object
    {
        public Vector3[] vertices { get; set; }
        public int[] triangles { get; set; }
        public BoneWeight[] boneWeights { get; set; }
        public Matrix4x4[] bindposes { get; set; }
        public void RecalculateNormals() { }
        public void RecalculateBounds() { }
    }

    public class SkinnedMeshRenderer : Component
    {
        public Mesh sharedMesh { get; set; }
        public Transform[] bones { get; set; }
        public bool updateWhenOffscreen { get; set; }
        public Material material { get; set; }
    }

    public static class Gizmos
    {
        public static Color color { get; set; }
        public static void DrawWireSphere(Vector3 position, float radius) { }
        public static void DrawLine(Vector3 from, Vector3 to) { }
    }

    public static class Time
    {
        public static float unscaledTime { get; set; }
    }

    public static class Debug
    {
        public static void LogWarning(object message) { Console.Error.WriteLine(message); }
    }

    public static class JsonUtility
    {
        public static T FromJson<T>(string json)
        {
            try
            {
                DataContractJsonSerializer serializer = new DataContractJsonSerializer(typeof(T));
                return (T)serializer.ReadObject(new MemoryStream(Encoding.UTF8.GetBytes(json)));
            }
            catch (System.Runtime.Serialization.SerializationException error)
            {
                throw new ArgumentException(error.Message);
            }
        }
    }

    [AttributeUsage(AttributeTargets.Field)]
    public class TooltipAttribute : Attribute
    {
        public TooltipAttribute(string text) { }
    }

    [AttributeUsage(AttributeTargets.Class)]
    public class RequireComponent : Attribute
    {
        public RequireComponent(Type type) { }
    }
}

namespace UnityEngine.Networking
{
    public class UnityWebRequest : IDisposable
    {
        public enum Result { InProgress, Success, ConnectionError }
        public class Handler { public string text { get; set; } }
        public Result result { get { return Result.Success; } }
        public string error { get { return ""; } }
        public Handler downloadHandler { get { return new Handler(); } }
        public static UnityWebRequest Get(string url) { return new UnityWebRequest(); }
        public void SetRequestHeader(string name, string value) { }
        public object SendWebRequest() { return null; }
        public void Dispose() { }
    }
}
